// The verdicts that the person gives in a queue: of the row under review or of many rows, undone, settled, and refused.

import { announce, h, number } from "../../lib/dom.js";
import { Reviews } from "../../lib/reviews.js";
import { toRun } from "../../lib/route.js";
import { chooseClass } from "../class_dialog.js";
import { verdictText } from "../labels.js";
import { notStored, reviewedSince, rowReviewedSince } from "./failed_step.js";

/** @import * as api from "../../types.d.ts" */
/** @import { FailedStep } from "../../lib/reviews.js" */
/** @import { QueuePage } from "./queue_page.js" */

export class QueueVerdicts {
  /**
   * @param {QueuePage} page
   * @param {api.QueuePage} queue
   */
  constructor(page, queue) {
    this.page = page;
    const { run, person } = page, { overlap = 1, blind = false } = queue.request;
    this.isBlind = blind;
    this.reviews = new Reviews(run.run, queue.name, {
      person,
      overlap,
      // Several reviewers of a row are what such a queue is for.
      checks: overlap === 1 && !blind,
      changed: (rows, failed) => this.#changed(rows, failed),
    });
    /** @type {Set<api.ReviewedRow>} Rows whose verdict the service could not store. */
    this.failed = new Set();
  }

  /**
   * Set the verdict of the current row and go to the next open row.
   *
   * @param {api.Verdict} verdict
   * @param {number | null} label
   */
  review(verdict, label = null) {
    const row = this.page.current;
    if (!row) return;
    const visible = this.page.data.visible();
    const next = visible.slice(visible.indexOf(row) + 1).find((other) => this.reviews.isOpen(other));
    this.reviews.set([{ row, verdict, label, comment: this.page.focus.comment.take() }]);
    const message = `${verdictText(this.page.run, verdict, label, row.unit)}. `;
    if (this.page.free.isOn) this.page.during(() => this.page.free.take(message));
    else if (next) this.page.select(next, { message });
    else if (!this.page.table.next.disabled) this.page.turn(1, { message, open: true });
    else this.#showEnd(message);
  }

  /**
   * Show that no open row follows, and where to go on.
   *
   * @param {string} message
   */
  #showEnd(message) {
    const { page } = this;
    announce(`${message}No open row follows.`);
    page.notice.replaceChildren(h(
      "p",
      { class: "notice done" },
      "No open row follows. The ",
      h("a", { href: toRun(page.run.run) }, "overview"),
      " has the corrected data set, and makes the next queue.",
    ));
  }

  /**
   * Set the verdicts of the selected rows as one step.
   *
   * @param {api.RowVerdict[]} step
   * @param {string} message
   */
  reviewAll(step, message) {
    if (step.length) this.reviews.set(step);
    this.page.selection.clear();
    announce(message);
    const undoHint = step.length ? "Undo takes the whole step back." : "";
    this.page.notice.replaceChildren(h("p", { class: "notice done" }, message, undoHint));
    if (this.page.query.tab === "selected") this.page.showTab(this.page.query.defaultTab);
  }

  /**
   * Store the person's verdict on the current row again, with a comment.
   *
   * @param {string} comment
   */
  saveComment(comment) {
    const row = this.page.current, own = row && this.reviews.own(row);
    if (!own) return;
    this.page.focus.comment.take();
    this.reviews.set([{ row, verdict: own.verdict, label: own.label, comment }]);
    announce("Comment saved.");
  }

  /**
   * Settle what reviewers disagree about in the current row.
   *
   * @param {api.Judgement} judgement
   */
  settle({ verdict, label }) {
    const row = this.page.current;
    if (!row) return;
    this.reviews.set([{ row, verdict, label, comment: this.page.focus.comment.take(), adjudicate: true }]);
    const text = verdict === null
      ? "The conflict is open again."
      : `Settled: ${verdictText(this.page.run, verdict, label, row.unit)}.`;
    announce(text);
  }

  settleOther() {
    if (this.page.current) {
      chooseClass(this.page.run, this.page.current.target, (label) => this.settle({ verdict: "wrong", label }));
    }
  }

  accept() {
    if (this.page.current && this.page.current.suggested !== null) this.review("wrong", this.page.current.suggested);
    else announce("The model suggests no other label for this row.");
  }

  chooseOther() {
    const row = this.page.current;
    if (!row) return;
    // A verdict on a whole example says only that one of its labels is wrong.
    if (row.target === null) this.review("wrong");
    else if (this.page.run.task === "multi_label") announce("A label is right or wrong: there is no other class.");
    else {
      chooseClass(this.page.run, row.target, (label) => {
        this.page.select(row, { quiet: true });
        this.review("wrong", label);
      });
    }
  }

  undo() {
    const rows = this.reviews.undo(this.page.current);
    if (!rows) {
      announce("There is nothing to take back.");
      return;
    }
    this.page.notice.replaceChildren();
    const message = rows.length > 1 ? `Taken back for ${number(rows.length)} rows. ` : "Taken back. ";
    if (this.page.data.rows.includes(rows[0])) this.page.select(rows[0], { message });
    else if (rows.length > 1) announce(message);
    else this.page.turn(0, { message, around: rows[0].rank });
  }

  /**
   * Show rows whose verdicts are being saved, are stored, or could not be stored.
   *
   * @param {api.ReviewedRow[]} rows
   * @param {FailedStep | null} failed
   */
  #changed(rows, failed = null) {
    if (failed) {
      if (this.page.refused(failed.error)) return;
      this.#showFailure(rows, failed);
    } else {
      const failedBefore = this.failed.size;
      for (const row of rows) if (!row.saving) this.failed.delete(row);
      if (failedBefore && !this.failed.size) this.page.notice.replaceChildren();
      this.#reveal(rows);
    }
    this.page.rowsChanged(rows);
  }

  /**
   * Show what was hidden before the verdict: the verdicts of others, the suggestion.
   *
   * @param {api.ReviewedRow[]} rows
   */
  async #reveal(rows) {
    const hidden = rows.filter((row) => !row.saving && (this.isBlind || row.suggestion === "hidden"));
    if (!hidden.length) return;
    try {
      await this.page.data.reload(hidden);
      this.page.rowsChanged(hidden);
    } catch (error) {
      if (error.name !== "AbortError") this.page.refused(error);
    }
  }

  /**
   * @param {api.ReviewedRow[]} rows
   * @param {FailedStep} failed
   */
  #showFailure(rows, failed) {
    const since = rowReviewedSince(failed);
    for (const { row, comment } of failed.step) if (comment) this.page.focus.comment.keep(row, comment);
    if (since) this.#showReviewedSince(since, failed);
    else {
      for (const row of rows) this.failed.add(row);
      this.page.notice.replaceChildren(...notStored(failed, this.failed));
    }
    if (since || rows.length === 1) this.page.select(since || rows[0], { quiet: true });
  }

  /**
   * Show what somebody else has said of a row in the meantime, and ask how to go on.
   *
   * @param {api.ReviewedRow} row
   * @param {FailedStep} failed
   */
  #showReviewedSince(row, failed) {
    const { step, error } = failed;
    if (error.current) this.reviews.add(row, { ...error.current, adjudicated: Boolean(error.current.adjudicated) });
    else row.review = null;
    const close = () => this.page.notice.replaceChildren();
    this.page.notice.replaceChildren(reviewedSince(this.page.run, row, failed, {
      person: this.page.person,
      keepTheirs: close,
      storeMine: () => {
        close();
        // Each row of a larger step may have changed; one is enough to know.
        this.reviews.set(step, { checks: step.length === 1 });
      },
    }));
  }
}
