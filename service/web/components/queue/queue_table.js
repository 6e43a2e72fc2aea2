// The table of a queue, with its tabs, selection boxes and page buttons.

import { bar, find, h, number, sentence } from "../../lib/dom.js";
import { TABS } from "../../lib/queue_query.js";
import { toExample, toQueue } from "../../lib/route.js";
import { MAX_SELECTED } from "./bulk_review.js";
import { exampleContent } from "../example_content.js";
import { labels, unitBadge, verdictBadge } from "../labels.js";

/** @import { ReviewedRow, Run } from "../../types.d.ts" */
/** @import { QueueQuery } from "../../lib/queue_query.js" */
/** @import { Selection } from "./bulk_review.js" */

/**
 * What the table shows, of which run and queue.
 *
 * @typedef {object} TableContext
 * @property {Run} run
 * @property {string} queue
 * @property {QueueQuery} query
 * @property {Selection} selection
 * @property {number} largestLoss The end of the scale of the losses.
 */

/**
 * The reactions to clicks.
 *
 * @typedef {object} TableActions
 * @property {(row: ReviewedRow) => void} open
 * @property {() => void} sort Called after the query's sort keys have changed.
 * @property {(tab: string) => void} showTab
 * @property {(step: 1 | -1) => void} turn Go to the next page or the previous one.
 * @property {() => void} selectMatching
 */

/**
 * Numbers of rows: of the queue, matching the tab, matching the filters, on the page, and the offset of the page.
 *
 * @typedef {{ all: number, matching: number, filtered: number, loaded: number, offset: number }} RowCounts
 */

export class QueueTable {
  /**
   * @param {TableContext} context
   * @param {TableActions} actions
   */
  constructor(context, actions) {
    this.context = context;
    this.actions = actions;
    /** @type {Map<ReviewedRow, HTMLElement>} The visible rows. */
    this.elements = new Map();
    /** @type {Map<string, HTMLButtonElement>} */
    this.sortButtons = new Map();
    this.body = h("tbody", {});
    this.table = h(
      "table",
      { class: "stacked rows-table" },
      h("caption", { class: "hidden-text" }, "Rows of the queue"),
      this.#head(),
      this.body,
    );
    this.tabs = TABS.map((tab) => h("button", { type: "button", onclick: () => actions.showTab(tab) }));
    this.count = h("p", { class: "muted count", role: "status" });
    this.pageBox = h("input", {
      type: "checkbox",
      id: "select-page",
      onchange: () => context.selection.set([...this.elements.keys()], this.pageBox.checked),
    });
    this.selectAll = h("button", { type: "button", class: "quiet", onclick: () => actions.selectMatching() });
    this.previous = h("button", { type: "button", onclick: () => actions.turn(-1) }, "Previous page");
    this.next = h("button", { type: "button", onclick: () => actions.turn(1) }, "Next page");
    this.pages = h("nav", { class: "pages", "aria-label": "Pages of the queue" }, this.previous, this.next);
  }

  /**
   * The table below other elements. The last of them are the buttons for selected rows.
   *
   * @param {HTMLElement} tiles
   * @param {HTMLElement} filters
   * @param {HTMLElement} bulk
   */
  section(tiles, filters, bulk) {
    return h(
      "div",
      { class: "rows" },
      tiles,
      filters,
      h("div", { class: "tabs", role: "group", "aria-label": "Which rows" }, this.tabs),
      bulk,
      h(
        "div",
        { class: "over-table" },
        h("label", { class: "check", for: "select-page" }, this.pageBox, "Select this page"),
        this.selectAll,
        this.count,
      ),
      h("div", { class: "card table-card" }, this.table),
      this.pages,
    );
  }

  #head() {
    /** @type {(key: string, label: string) => HTMLButtonElement} */
    const by = (key, label) => {
      const button = h(
        "button",
        {
          type: "button",
          class: "sort",
          title: "Sort by this column. Hold Shift to keep the present order and add this column to it.",
          onclick: (/** @type {MouseEvent} */ event) => {
            this.context.query.sortBy(key, { further: event.shiftKey });
            this.actions.sort();
          },
        },
        label,
        h("span", { class: "direction", "aria-hidden": "true" }),
      );
      this.sortButtons.set(key, button);
      return button;
    };
    /** @type {(kind: string | null, ...content: (string | HTMLElement)[]) => HTMLElement} */
    const cell = (kind, ...content) => h("th", { scope: "col", class: kind }, content);
    return h(
      "thead",
      {},
      h(
        "tr",
        {},
        cell("num", by("rank", "#")),
        cell(null, by("id", "Example")),
        cell(null, by("target", "Given"), " → ", by("suggested", "suggested")),
        cell(null, "Why it is here"),
        cell(null, by("loss", "Loss")),
        cell(null, by("verdict", "Verdict")),
      ),
    );
  }

  /** @param {ReviewedRow[]} rows */
  show(rows) {
    this.elements = new Map(rows.map((row) => [row, this.#row(row)]));
    this.body.replaceChildren(...this.elements.values());
  }

  /**
   * Draw a row again if it is visible.
   *
   * @param {ReviewedRow} row
   */
  redraw(row) {
    const element = this.elements.get(row);
    if (!element) return;
    const redrawn = this.#row(row);
    redrawn.classList.toggle("picked", this.context.selection.has(row));
    element.replaceWith(redrawn);
    this.elements.set(row, redrawn);
  }

  /**
   * Mark the row under review.
   *
   * @param {ReviewedRow | null} current
   */
  mark(current) {
    for (const [row, element] of this.elements) {
      if (row === current) element.setAttribute("aria-current", "true");
      else element.removeAttribute("aria-current");
    }
  }

  /** @param {ReviewedRow} row */
  #row(row) {
    const { run, queue, query, selection, largestLoss } = this.context;
    const open = (/** @type {MouseEvent} */ event) => {
      const target = /** @type {Element} */ (event.target);
      if (event.ctrlKey || event.metaKey || event.shiftKey || target.closest("a:not(.rank), input, label")) return;
      event.preventDefault();
      this.actions.open(row);
    };
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Select row ${row.rank}`,
      onchange: () => selection.set([row], box.checked),
    });
    box.checked = selection.has(row);
    const href = toQueue(run.run, queue, row.rank, query.addressQuery);
    return h(
      "tr",
      { onclick: open },
      h(
        "td",
        { class: "num pick" },
        box,
        h("a", { class: "rank", href, "aria-label": `Row ${row.rank}` }, String(row.rank)),
      ),
      h("th", { scope: "row", class: "brief" }, exampleContent(row), exampleLink(run.run, queue, row)),
      h("td", { "data-label": "Given → suggested" }, labels(run, row), " ", unitBadge(run, row)),
      h("td", { class: "why" }, sentence(row.reason)),
      h(
        "td",
        { class: "loss", "data-label": "Loss" },
        h("span", { class: "progress" }, bar(row.loss / (largestLoss || 1), "bad"), number(row.loss, 3)),
      ),
      h("td", { class: "end", "data-label": "Verdict" }, verdictBadge(run, row)),
    );
  }

  /**
   * Show the numbers of rows, the selection and the sort keys.
   *
   * @param {RowCounts} counts
   */
  refresh({ all, matching, filtered, loaded, offset }) {
    const { query, selection } = this.context;
    const visible = this.elements.size;
    // Reviewed rows of this page may no longer match.
    const stillMatching = matching - (loaded - visible);
    this.previous.disabled = offset === 0;
    this.next.disabled = offset + loaded >= matching;
    this.pages.hidden = this.previous.disabled && this.next.disabled;
    const span = visible ? `${number(offset + 1)}–${number(offset + visible)} of ${number(stillMatching)}` : "no";
    this.count.textContent = this.pages.hidden ? `${number(visible)} rows` : `Rows ${span}`;
    const texts = [
      `All (${number(all)})`,
      `Filtered (${number(query.tab === "filtered" ? stillMatching : filtered)})`,
      `Selected (${number(selection.size)})`,
    ];
    this.tabs.forEach((button, place) => {
      button.textContent = texts[place];
      button.setAttribute("aria-pressed", String(query.tab === TABS[place]));
    });
    this.#showSelection(stillMatching);
    this.#showSortKeys();
  }

  /** @param {number} matching */
  #showSelection(matching) {
    const { query, selection } = this.context;
    let selected = 0;
    for (const [row, element] of this.elements) {
      const isSelected = selection.has(row);
      if (isSelected) selected += 1;
      element.classList.toggle("picked", isSelected);
      /** @type {HTMLInputElement} */ (find(element, "input")).checked = isSelected;
    }
    const visible = this.elements.size;
    this.pageBox.checked = visible > 0 && selected === visible;
    this.pageBox.indeterminate = selected > 0 && selected < visible;
    this.pageBox.disabled = visible === 0;
    this.selectAll.hidden = query.tab === "selected" || matching <= visible ||
      selection.size >= Math.min(matching, MAX_SELECTED);
    this.selectAll.textContent = `Select all ${number(matching)}${query.tab === "filtered" ? " that match" : ""}`;
  }

  #showSortKeys() {
    const { query } = this.context;
    // Selected rows are always sorted by rank.
    const fixed = query.tab === "selected";
    for (const [key, button] of this.sortButtons) {
      const sorted = fixed ? null : query.sorted(key);
      const direction = sorted && (sorted.descending ? "descending" : "ascending");
      const arrow = direction && (direction === "descending" ? "↓" : "↑");
      button.disabled = fixed;
      find(button, ".direction").textContent = sorted
        ? `${arrow}${query.sort.length > 1 ? ` ${sorted.place}` : ""}`
        : "";
      button.dataset.sorted = direction || "none";
    }
    for (const cell of new Set([...this.sortButtons.values()].map((button) => button.parentElement))) {
      const directions = [...cell?.querySelectorAll("button") || []].map((button) => button.dataset.sorted);
      cell?.setAttribute("aria-sort", directions.find((direction) => direction !== "none") || "none");
    }
  }
}

/**
 * A link to the view of an example, which links back to the row.
 *
 * @param {string} run
 * @param {string} queue
 * @param {ReviewedRow} row
 */
export function exampleLink(run, queue, row) {
  return h("a", { class: "id", href: toExample(run, row.id, { queue, row: row.rank }) }, row.id);
}
