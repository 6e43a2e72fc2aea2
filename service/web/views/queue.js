// The review of a queue: one row at a time with everything needed to judge it, next to the table of rows.
// A queue may have 100 000 rows, so the service filters, sorts and pages them.

import { bulkBar, MAX_SELECTED, Selection } from "../components/queue/bulk_review.js";
import { chooseClass } from "../components/class_dialog.js";
import { FocusCard } from "../components/queue/focus_card.js";
import { rowText, verdictText } from "../components/labels.js";
import { crumbs } from "../components/layout.js";
import { describeQueue } from "../components/queue/queue_description.js";
import { queueFilters } from "../components/queue/queue_filters.js";
import { progressTiles, unsavedRows } from "../components/queue/queue_progress.js";
import { QueueTable } from "../components/queue/queue_table.js";
import { rankedBy } from "../components/queue/strategies.js";
import { ElementsCache } from "../lib/elements_cache.js";
import { announce, h, number, problem } from "../lib/dom.js";
import { listen, showKeys } from "../lib/keys.js";
import { QueueQuery } from "../lib/queue_query.js";
import { PAGE_ROWS, QueueRows } from "../lib/queue_rows.js";
import { Reviews } from "../lib/reviews.js";
import { address, toQueue, toRun } from "../lib/route.js";
import { getExample, getQueue, getRun } from "../lib/runs_api.js";

/** @import * as api from "../types.d.ts" */
/** @import { LoadPage, Place } from "../lib/queue_rows.js" */

const WIDE = matchMedia("(min-width: 64rem)");

/** @param {api.View} view */
export async function queueView({ parts, query, signal, refused }) {
  const [, name, , queueName, rank] = parts;
  /** @type {LoadPage} */
  const loadPage = (parameters) => getQueue(name, queueName, parameters, signal);
  const wanted = Number(rank) || null;
  const [run, hardest] = await Promise.all([
    getRun(name, signal),
    loadPage("sort=-loss&limit=1&fields=loss&facets=true"),
  ]);
  const queueQuery = new QueueQuery(query, run);
  const apiQuery = queueQuery.apiQuery();
  const onlyOpen = queueQuery.filters.show ? "" : "verdict=open&";
  const open = wanted ? null : await loadPage(`${apiQuery}${apiQuery && "&"}${onlyOpen}limit=1&fields=rank`);
  const elements = new ElementsCache((id) => getExample(name, id, { epoch: hardest.epoch }, signal));
  const page = new QueuePage(run, hardest, queueQuery, { loadPage, elements, refused });
  listen((action) => page.act(action), signal);
  globalThis.addEventListener("beforeunload", (event) => {
    if (page.reviews.unsaved) event.preventDefault();
  }, { signal });
  const { data } = page;
  await data.load({ around: wanted || open?.rows[0]?.rank || 0 });
  page.showRows();
  page.select(data.rows.find((row) => row.rank === wanted) || data.firstOpen() || data.visible()[0], { quiet: true });
  return page.element;
}

class QueuePage {
  /**
   * @param {api.Run} run
   * @param {api.QueuePage} queue Its first row has the largest loss.
   * @param {QueueQuery} query
   * @param {{ loadPage: LoadPage, elements: ElementsCache, refused: api.Refused }} options
   */
  constructor(run, queue, query, { loadPage, elements, refused }) {
    this.run = run;
    this.query = query;
    this.refused = refused;
    /** @type {api.ReviewedRow | null} The row under review. */
    this.current = null;
    /** @type {Set<api.ReviewedRow>} Rows whose verdict the service could not store. */
    this.failed = new Set();
    /** @type {Promise<void> | null} Resolves when the page in progress is shown. */
    this.loading = null;
    this.progress = run.reviews;
    /** @type {Record<string, () => unknown>} The functions of `ACTIONS`. */
    this.actions = {
      keep: () => this.review("ok"),
      accept: () => this.accept(),
      other: () => this.chooseOther(),
      unsure: () => this.review("unsure"),
      skip: () => this.go(1, "Skipped. "),
      undo: () => this.undo(),
      next: () => this.go(1),
      previous: () => this.go(-1),
      pick: () => this.toggleSelected(),
      help: showKeys,
    };
    this.reviews = new Reviews(run.run, queue.name, (rows, error) => this.reviewsChanged(rows, error));
    this.selection = new Selection(() => this.showSelection());
    this.data = new QueueRows(queue, query, { loadPage, reviews: this.reviews, selected: () => this.selection.rows });
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
    this.focus = new FocusCard(run, queue.name, { act: (action) => this.act(action), elements });
    const facets = queue.attributes || {};
    this.filters = queueFilters(run, facets, query, (change) => this.queryChanged(change), WIDE.matches);
    this.bulk = bulkBar(run, this.selection, {
      review: (step, message) => this.reviewAll(step, message),
      chooseClass: (act) => chooseClass(run, null, act),
    });
    this.tiles = h("dl", { class: "tiles" });
    this.notice = h("div", {});
    const label = { class: "focus", "aria-label": "Row under review" };
    this.focusSection = h("section", label, this.notice, this.focus.element);
    this.element = h(
      "section",
      { class: "queue" },
      crumbs(["Runs", "#/"], [run.run, toRun(run.run)], [queue.name]),
      h("h1", { class: "wrap" }, queue.name),
      h(
        "p",
        { class: "lead" },
        describeQueue(run, queue),
        " ",
        h("a", { href: address(["runs", run.run, "export"], { queue: queue.name }) }, "Export it"),
      ),
      queue.chosen && h("p", { class: "muted" }, queue.chosen.why),
      queue.warnings.length > 0 && h("ul", { class: "notice warn" }, queue.warnings.map((text) => h("li", {}, text))),
      h("div", { class: "review" }, this.focusSection, this.table.section(this.tiles, this.filters, this.bulk)),
    );
  }

  /**
   * Do an action of `ACTIONS`, after the page in progress is shown.
   *
   * @param {string} action
   */
  act(action) {
    if (this.loading) this.loading.then(() => this.act(action));
    else this.actions[action]();
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
   * Set the verdict of the current row and go to the next open row.
   *
   * @param {api.Verdict} verdict
   * @param {number | null} label
   */
  review(verdict, label = null) {
    const row = this.current;
    if (!row) return;
    const visible = this.data.visible();
    const next = visible.slice(visible.indexOf(row) + 1).find((other) => other.verdict === null && !other.saving);
    this.reviews.set([{ row, verdict, label }]);
    const message = `${verdictText(this.run, verdict, label, row.unit)}. `;
    if (next) this.select(next, { message });
    else if (!this.table.next.disabled) this.turn(1, { message, open: true });
    else announce(`${message}No open row follows.`);
  }

  /**
   * Set the verdicts of the selected rows as one step.
   *
   * @param {api.RowVerdict[]} step
   * @param {string} message
   */
  reviewAll(step, message) {
    if (step.length) this.reviews.set(step);
    this.selection.clear();
    announce(message);
    const undoHint = step.length ? "Undo takes the whole step back." : "";
    this.notice.replaceChildren(h("p", { class: "notice done" }, message, undoHint));
    if (this.query.tab === "selected") this.showTab(this.query.defaultTab);
  }

  accept() {
    if (this.current && this.current.suggested !== null) this.review("wrong", this.current.suggested);
    else announce("The model suggests no other label for this row.");
  }

  chooseOther() {
    const row = this.current;
    if (!row) return;
    // A verdict on a whole example says only that one of its labels is wrong.
    if (row.target === null) this.review("wrong");
    else if (this.run.task === "multi_label") announce("A label is right or wrong: there is no other class.");
    else {
      chooseClass(this.run, row.target, (label) => {
        this.select(row, { quiet: true });
        this.review("wrong", label);
      });
    }
  }

  undo() {
    const rows = this.reviews.undo(this.current);
    if (!rows) {
      announce("There is nothing to take back.");
      return;
    }
    this.notice.replaceChildren();
    const message = rows.length > 1 ? `Taken back for ${number(rows.length)} rows. ` : "Taken back. ";
    if (this.data.rows.includes(rows[0])) this.select(rows[0], { message });
    else if (rows.length > 1) announce(message);
    else this.turn(0, { message, around: rows[0].rank });
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
   * Load and show a page, then call `done`. Actions wait for it.
   *
   * @param {Place} place
   * @param {() => void} done
   */
  #showPage(place, done) {
    const loading = this.#loadPage(place, done).finally(() => {
      if (this.loading === loading) this.loading = null;
    });
    this.loading = loading;
    return loading;
  }

  /**
   * @param {Place} place
   * @param {() => void} done
   */
  async #loadPage(place, done) {
    try {
      if (!(await this.data.load(place))) return;
      this.showRows();
      done();
    } catch (error) {
      if (error.name !== "AbortError" && !this.refused(error)) this.notice.replaceChildren(problem(error));
    }
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
   * Show rows whose verdicts are being saved, are stored, or could not be stored.
   *
   * @param {api.ReviewedRow[]} rows
   * @param {api.Failure | null} error
   */
  reviewsChanged(rows, error = null) {
    if (error) {
      if (this.refused(error)) return;
      this.#showFailure(rows, error);
    } else {
      const failedBefore = this.failed.size;
      for (const row of rows) if (!row.saving) this.failed.delete(row);
      if (failedBefore && !this.failed.size) this.notice.replaceChildren();
    }
    if (this.reviews.progress) this.progress = this.reviews.progress;
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

  /**
   * @param {api.ReviewedRow[]} rows
   * @param {api.Failure} error
   */
  #showFailure(rows, error) {
    for (const row of rows) this.failed.add(row);
    this.notice.replaceChildren(problem(error), unsavedRows(this.failed));
    if (rows.length === 1) this.select(rows[0], { quiet: true });
  }

  showProgress() {
    const precision = this.progress.precision[rankedBy(this.data.queue)];
    this.tiles.replaceChildren(...progressTiles(this.data.queue, this.data.counts(), precision));
  }
}
