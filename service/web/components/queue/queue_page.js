// The review of a queue: one row at a time with everything needed to judge it, next to the table of rows.

import { announce, h, number, problem } from "../../lib/dom.js";
import { showKeys } from "../../lib/keys.js";
import { PAGE_ROWS, QueueRows } from "../../lib/queue_rows.js";
import { toQueue } from "../../lib/route.js";
import { chooseClass } from "../class_dialog.js";
import { rowText } from "../labels.js";
import { askForName } from "../person.js";
import { bulkBar, MAX_SELECTED, Selection } from "./bulk_review.js";
import { FreeRows } from "./free_rows.js";
import { FocusCard } from "./focus_card.js";
import { queueHead } from "./queue_description.js";
import { queueFilters } from "./queue_filters.js";
import { progressTiles } from "./queue_progress.js";
import { QueueTable } from "./queue_table.js";
import { QueueVerdicts } from "./queue_verdicts.js";
import { rankedBy } from "./strategies.js";

/** @import * as api from "../../types.d.ts" */
/** @import { ElementsCache } from "../../lib/elements_cache.js" */
/** @import { QueueQuery } from "../../lib/queue_query.js" */
/** @import { LoadPage, Place } from "../../lib/queue_rows.js" */

/**
 * @typedef {object} PageOptions
 * @property {LoadPage} loadPage
 * @property {ElementsCache} elements
 * @property {api.Person} person
 * @property {AbortSignal} signal
 * @property {api.Refused} refused
 * @property {() => void} again Shows the view again, as the person has another name.
 */

const WIDE = matchMedia("(min-width: 64rem)");
/** Actions that change no verdict. */
const READ_ONLY_ACTIONS = ["next", "previous", "pick", "help"];

export class QueuePage {
  /**
   * @param {api.Run} run
   * @param {api.QueuePage} queue Its first row has the largest loss.
   * @param {QueueQuery} query
   * @param {PageOptions} options
   */
  constructor(run, queue, query, { loadPage, elements, person, signal, refused, again }) {
    this.run = run;
    this.query = query;
    this.person = person;
    this.refused = refused;
    /** @type {api.ReviewedRow | null} The row under review. */
    this.current = null;
    /** @type {Promise<void> | null} Resolves when the page in progress is shown. */
    this.loading = null;
    /** @type {Record<string, () => unknown>} The functions of `ACTIONS`. */
    this.actions = {
      keep: () => this.verdicts.review("ok"),
      accept: () => this.verdicts.accept(),
      other: () => this.verdicts.chooseOther(),
      unsure: () => this.verdicts.review("unsure"),
      exclude: () => this.verdicts.review("exclude"),
      comment: () => this.focus.comment.input.focus(),
      skip: () => this.free.isOn ? this.during(() => this.free.skip()) : this.go(1, "Skipped. "),
      undo: () => this.verdicts.undo(),
      next: () => this.go(1),
      previous: () => this.go(-1),
      pick: () => this.toggleSelected(),
      help: showKeys,
    };
    this.verdicts = new QueueVerdicts(this, queue);
    this.free = new FreeRows(this, queue.name, signal);
    this.selection = new Selection(() => this.showSelection());
    this.data = new QueueRows(queue, query, {
      loadPage,
      reviews: this.verdicts.reviews,
      selected: () => this.selection.rows,
    });
    this.table = new QueueTable(
      { run, queue: queue.name, query, selection: this.selection, largestLoss: queue.rows[0]?.loss || 0 },
      {
        open: (row) => this.open(row),
        sort: () => this.queryChanged("sort"),
        showTab: (tab) => this.showTab(tab),
        turn: (step) => this.turn(step, { look: true }),
        selectMatching: () => this.selectMatching(),
      },
    );
    this.focus = new FocusCard(run, queue.name, {
      act: (action) => this.act(action),
      elements,
      person,
      saveComment: (comment) => this.verdicts.saveComment(comment),
      settle: (judgement) => this.verdicts.settle(judgement),
      settleOther: () => this.verdicts.settleOther(),
    });
    const facets = queue.attributes || {};
    this.filters = queueFilters(run, facets, query, (change) => this.queryChanged(change), WIDE.matches);
    this.bulk = bulkBar(run, this.selection, person, {
      review: (step, message) => this.verdicts.reviewAll(step, message),
      chooseClass: (act) => chooseClass(run, null, act),
    });
    this.tiles = h("dl", { class: "tiles" });
    this.notice = h("div", {});
    const label = { class: "focus", "aria-label": "Row under review" };
    const asked = askForName(person, again) || "";
    this.focusSection = h("section", label, asked, this.free.element, this.notice, this.focus.element);
    this.element = h(
      "section",
      { class: "queue" },
      queueHead(run, queue),
      h("div", { class: "review" }, this.focusSection, this.table.section(this.tiles, this.filters, this.bulk)),
    );
  }

  /**
   * Do an action of `ACTIONS`, after the page in progress is shown.
   *
   * @param {string} action
   */
  act(action) {
    if (READ_ONLY_ACTIONS.includes(action) || this.person.canReview) {
      if (this.loading) this.loading.then(() => this.act(action));
      else this.actions[action]();
    }
  }

  showRows() {
    this.table.show(this.data.visible());
    this.table.mark(this.current);
    this.showSelection();
    this.showProgress();
  }

  /**
   * Put a row under review.
   *
   * @param {api.ReviewedRow | null | undefined} row
   * @param {{ quiet?: boolean, message?: string }} options `quiet`: do not announce the row to screen readers.
   */
  select(row, { quiet = false, message = "" } = {}) {
    this.current = row || null;
    this.table.mark(this.current);
    this.showFocus();
    this.#updateAddress();
    if (!row) return;
    if (!quiet) announce(`${message}${rowText(this.run, row)}`);
    if (WIDE.matches) this.table.elements.get(row)?.scrollIntoView({ block: "nearest" });
  }

  /**
   * Put the row of a click under review. On a narrow screen, scroll to it.
   *
   * @param {api.ReviewedRow} row
   */
  open(row) {
    this.select(row);
    if (!WIDE.matches) this.focusSection.scrollIntoView({ block: "start" });
  }

  #updateAddress() {
    const { run, data, current, query } = this;
    history.replaceState(null, "", toQueue(run.run, data.queue.name, current?.rank, query.addressQuery));
  }

  showFocus() {
    if (this.current) this.focus.show(this.current, this.data.queue.num_rows, this.data.counts().reviewed);
    else this.focus.clear(this.query.tab === "selected" ? "No row is selected." : "No row matches the filter.");
  }

  /**
   * Go to the next row (1) or the previous one (-1).
   *
   * @param {1 | -1} step
   */
  go(step, message = "") {
    const visible = this.data.visible();
    const place = this.current ? visible.indexOf(this.current) : -1;
    const next = place < 0 ? visible[0] : visible[place + step];
    if (next) this.select(next, { message });
    else if (!(step > 0 ? this.table.next : this.table.previous).disabled) this.turn(step, { message });
    else announce(step > 0 ? "This is the last row." : "This is the first row.");
  }

  /**
   * Go to the next page (1), the previous one (-1), or the page of a rank, and put a row of it under review: the row of
   * the rank; the first open row with `open`; otherwise the last row of a previous page, the first row of a next page.
   *
   * @param {1 | 0 | -1} step
   * @param {{ message?: string, open?: boolean, around?: number | null, look?: boolean }} options `look`: scroll to the
   *   table and start at the first row.
   */
  turn(step, { message = "", open = false, around = null, look = false } = {}) {
    const offset = step > 0 ? this.data.offset + this.data.visible().length : Math.max(0, this.data.offset - PAGE_ROWS);
    return this.#showPage(around ? { around } : { offset }, () => {
      const visible = this.data.visible();
      const wanted = around ? visible.find((row) => row.rank === around) : open ? this.data.firstOpen() : null;
      this.select(wanted || visible[step < 0 && !look ? visible.length - 1 : 0], { message });
      if (look) this.table.table.scrollIntoView({ block: "start" });
    });
  }

  /**
   * Load and show a page, then call `done`.
   *
   * @param {Place} place
   * @param {() => void} done
   */
  #showPage(place, done) {
    return this.during(async () => {
      if (!(await this.data.load(place))) return;
      this.showRows();
      done();
    });
  }

  /**
   * Do work that loads rows. Actions wait for it.
   *
   * @param {() => Promise<void>} work
   */
  during(work) {
    const loading = work().catch((error) => {
      if (error.name !== "AbortError" && !this.refused(error)) this.notice.replaceChildren(problem(error));
    }).finally(() => {
      if (this.loading === loading) this.loading = null;
    });
    this.loading = loading;
    return loading;
  }

  /** True if an error is shown. */
  get hasFailure() {
    return this.notice.querySelector("[role=alert]") !== null;
  }

  /**
   * Put the row of a rank under review, from another page if need be.
   *
   * @param {number} rank
   * @param {string} message Announced before the row.
   */
  async show(rank, message) {
    const row = this.data.visible().find((row) => row.rank === rank);
    if (row) return this.select(row, { message });
    // The filters may leave the row out.
    this.query.tab = "all";
    await this.turn(0, { message, around: rank });
  }

  /**
   * Show the rows of the changed query. The current row stays under review if it is still there.
   *
   * @param {"filter" | "sort" | "tab"} change
   */
  queryChanged(change) {
    if (change === "filter") this.query.tab = this.query.defaultTab;
    this.filters.refresh();
    const row = this.current;
    return this.#showPage({ around: row?.rank }, () => {
      const visible = this.data.visible();
      this.select(row && visible.includes(row) ? row : this.data.firstOpen() || visible[0], { quiet: true });
    });
  }

  /** @param {string} tab */
  showTab(tab) {
    this.query.tab = tab;
    return this.queryChanged("tab");
  }

  toggleSelected() {
    const row = this.current;
    if (!row) return;
    const selected = !this.selection.has(row);
    this.selection.set([row], selected);
    const state = this.selection.has(row) ? "selected" : "no longer selected";
    announce(`Row ${row.rank} ${state}; ${number(this.selection.size)} in all.`);
  }

  /** Select all rows that match, on all pages. */
  async selectMatching() {
    this.table.selectAll.disabled = true;
    try {
      const { rows, total } = await this.data.loadMatching(MAX_SELECTED);
      this.selection.set(rows, true);
      if (total > MAX_SELECTED) {
        const message = `The first ${number(MAX_SELECTED)} rows are selected, the most that one step can review.`;
        this.notice.replaceChildren(h("p", { class: "notice done" }, message));
      }
    } catch (error) {
      if (!this.refused(error)) this.notice.replaceChildren(problem(error));
    }
    this.table.selectAll.disabled = false;
  }

  showSelection() {
    const { queue, rows, offset, matching, filtered } = this.data;
    this.bulk.refresh();
    this.table.refresh({ all: queue.num_rows, matching, filtered, loaded: rows.length, offset });
  }

  /**
   * Show rows whose verdicts have changed, or are being saved.
   *
   * @param {api.ReviewedRow[]} rows
   */
  rowsChanged(rows) {
    const { elements } = this.table;
    const moved = rows.some((row) =>
      !row.saving && this.data.rows.includes(row) && this.query.matches(row) !== elements.has(row)
    );
    if (moved) this.showRows();
    else {
      for (const row of rows) this.table.redraw(row);
      this.table.mark(this.current);
    }
    this.showFocus();
    this.showProgress();
  }

  showProgress() {
    const { reviews } = this.run, progress = this.verdicts.reviews.progress || reviews;
    const precision = progress.precision[rankedBy(this.data.queue)];
    this.tiles.replaceChildren(...progressTiles(this.data.queue, this.data.counts(), precision));
  }
}
