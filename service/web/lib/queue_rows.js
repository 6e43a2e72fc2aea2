// The rows of a queue that are loaded: one page, filtered, sorted and counted by the service.

import { noCounts } from "./reviews.js";
import { isStructured, unitKey } from "./units.js";

/** @import { QueuePage, QueueRow, ReviewedRow } from "../types.d.ts" */
/** @import { QueueQuery } from "./queue_query.js" */
/** @import { Reviews } from "./reviews.js" */
/** @typedef {{ offset?: number, around?: number | null }} Place An offset, or the rank of a row. */
/** @typedef {(query: string) => Promise<QueuePage>} LoadPage */

export const PAGE_ROWS = 100;
/** The fields of a row that a verdict needs; rows of structured runs have a unit too. */
const REVIEW_FIELDS = "id,rank,target,suggested,verdict,verdict_label,review,reviews,done,suggestion",
  UNIT_FIELDS = `${REVIEW_FIELDS},unit`;

export class QueueRows {
  /**
   * @param {QueuePage} queue
   * @param {QueueQuery} query
   * @param {object} sources
   * @param {LoadPage} sources.loadPage
   * @param {Reviews} sources.reviews
   * @param {() => ReviewedRow[]} sources.selected The selected rows, by rank.
   */
  constructor(queue, query, { loadPage, reviews, selected }) {
    this.queue = queue;
    this.query = query;
    this.loadPage = loadPage;
    this.reviews = reviews;
    this.selected = selected;
    /** @type {ReviewedRow[]} The rows of this page, including those that no longer match. */
    this.rows = [];
    this.offset = 0;
    /** Number of rows that match the tab. */
    this.matching = queue.num_rows;
    /** Number of rows that match the filters. */
    this.filtered = queue.num_rows;
    /** @type {Map<string, ReviewedRow>} Every row that was loaded, by `unitKey`. */
    this.known = new Map();
    this.numLoads = 0;
  }

  /** The rows of this page that still match the filters. */
  visible() {
    return this.rows.filter((row) => this.query.matches(row));
  }

  /** The first visible row that waits for a verdict. */
  firstOpen() {
    return this.visible().find((row) => this.reviews.isOpen(row));
  }

  /**
   * Load rows of this page again: a verdict shows the person what was hidden before.
   *
   * @param {ReviewedRow[]} rows
   */
  async reload(rows) {
    const ranks = rows.filter((row) => this.rows.includes(row)).map((row) => row.rank);
    if (!ranks.length) return;
    const page = await this.loadPage(`ranks=${ranks.join(",")}&limit=${PAGE_ROWS}`);
    for (const row of page.rows) this.#knownRow(row);
  }

  /**
   * Load a page. False if a later call has replaced this one.
   *
   * @param {Place} place
   */
  async load({ offset = 0, around = null }) {
    const load = (this.numLoads += 1);
    // The service has to know all verdicts, or it would return rows that no longer match.
    await this.reviews.pending;
    const { query } = this;
    const page = query.tab === "selected"
      ? await this.#loadSelected(offset, around)
      : await this.loadPage(query.apiQuery({ limit: PAGE_ROWS, ...(around ? { around } : { offset }) }));
    const filtered = query.tab !== "filtered" && query.hasFilters
      ? await this.loadPage(query.apiQuery({ filtered: true, limit: 1, fields: "rank" }))
      : null;
    if (load !== this.numLoads) return false;
    this.rows = page.rows.map((row) => this.#knownRow(row));
    this.offset = page.offset;
    this.matching = page.num_matching;
    this.filtered = filtered ? filtered.num_matching : query.tab === "filtered" ? page.num_matching : page.num_rows;
    this.queue = { ...page, rows: [] };
    this.reviews.counts = noCounts();
    return true;
  }

  /**
   * Load a page of the selected rows, by rank.
   *
   * @param {number} offset
   * @param {number | null} around
   */
  async #loadSelected(offset, around) {
    const rows = this.selected();
    const place = around ? rows.findIndex((row) => row.rank === around) : offset;
    const from = Math.max(0, around ? place - (place % PAGE_ROWS) : offset);
    // An empty list would match all rows; no row has rank 0.
    const ranks = rows.slice(from, from + PAGE_ROWS).map((row) => row.rank).join(",") || "0";
    const page = await this.loadPage(`ranks=${ranks}&limit=${PAGE_ROWS}`);
    return { ...page, offset: from, num_matching: rows.length };
  }

  /**
   * Load the rows of all pages that match, with the fields that a verdict needs. `total` counts those past the limit too.
   *
   * @param {number} limit
   */
  async loadMatching(limit) {
    const fields = isStructured(this.query.run) ? UNIT_FIELDS : REVIEW_FIELDS;
    const page = await this.loadPage(this.query.apiQuery({ limit, fields }));
    return { rows: page.rows.map((row) => this.#knownRow(row)), total: page.num_matching };
  }

  /**
   * The object of a row, which stays the same when the row is loaded again: the row may be selected or being saved.
   *
   * @param {QueueRow} row
   * @returns {ReviewedRow}
   */
  #knownRow(row) {
    const key = unitKey(row);
    const known = this.known.get(key);
    if (!known) this.known.set(key, row);
    else if (known.saving) Object.assign(known, { ...row, ...verdictsOf(known) });
    else Object.assign(known, row);
    return known || row;
  }

  /** Numbers of stored verdicts of the queue. `judged`: kept or wrong. */
  counts() {
    const { queue, reviews: { counts } } = this;
    const wrong = queue.num_wrong + counts.wrong;
    const judged = wrong + queue.num_ok + counts.ok;
    const reviewed = Object.values(counts).reduce((sum, count) => sum + count, queue.num_reviewed);
    return { wrong, judged, reviewed, conflicts: queue.num_conflict + counts.conflict };
  }
}

/** @param {ReviewedRow} row */
const verdictsOf = ({ verdict, verdict_label, review, reviews, done }) => ({
  verdict,
  verdict_label,
  review,
  reviews,
  done,
});
