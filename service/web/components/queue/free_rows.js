// Several people in one queue: each takes the next row that is free for them, and holds it until the verdict.

import { announce, h, number } from "../../lib/dom.js";
import { giveRowsBack, leaseRows } from "../../lib/runs_api.js";

/** @import { Person } from "../../types.d.ts" */
/** @import { QueuePage } from "./queue_page.js" */

export class FreeRows {
  /**
   * @param {QueuePage} page
   * @param {string} queue
   * @param {AbortSignal} signal The person's rows are given back when it aborts.
   */
  constructor(page, queue, signal) {
    this.page = page;
    this.queue = queue;
    /** The rank of the row that was taken last. */
    this.taken = 0;
    /** @type {Set<number>} Ranks of taken rows that the person has passed over, and still holds. */
    this.skipped = new Set();
    this.box = h("input", { type: "checkbox", id: "free-rows", onchange: () => this.#switched() });
    this.status = h("small", { role: "status" });
    this.element = h(
      "p",
      { class: "free-rows" },
      h("label", { class: "check", for: "free-rows" }, this.box, "Give me rows that nobody else is reviewing"),
      this.status,
    );
    this.element.hidden = !page.person.canReview;
    this.box.checked = page.verdicts.reviews.overlap > 1 && page.person.canReview;
    signal.addEventListener("abort", () => this.#giveBack());
  }

  /** True if the person takes free rows, one after the other. */
  get isOn() {
    return this.box.checked;
  }

  #switched() {
    if (this.isOn) this.page.during(() => this.take(""));
    else this.#giveBack();
  }

  async #giveBack() {
    const { run, person } = this.page;
    if (!this.taken) return;
    this.taken = 0;
    this.skipped.clear();
    this.status.textContent = "";
    // If it fails, the rows are free when the lease ends.
    await giveRowsBack(run.run, this.queue, person).catch(() => null);
  }

  /**
   * Take the next free row and put it under review.
   *
   * @param {string} message Announced before the row.
   */
  async take(message) {
    const { page } = this;
    // A verdict in flight still holds its row, and one that could not be stored stays under review.
    await page.verdicts.reviews.pending;
    if (page.hasFailure) return;
    const { rows, num_free: free } = await leaseRows(page.run.run, this.queue, page.person, this.skipped.size + 1);
    const rank = rows.find((row) => !this.skipped.has(row.rank || 0))?.rank;
    this.status.textContent = rank ? `${number(free)} more` : "No row is free for you.";
    if (!rank) announce(`${message}No row is free for you.`);
    else {
      this.taken = rank;
      await page.show(rank, message);
    }
  }

  /** Leave the current row, which stays the person's, and take another one. */
  async skip() {
    const { current } = this.page;
    if (current?.rank === this.taken) this.skipped.add(current.rank);
    await this.take("Skipped. ");
  }
}
