// The verdicts of a queue. Each step is sent at once, in order, and counts when the service has stored it.

import { postReviews } from "./runs_api.js";
import { addReview, adjudicationOf, reviewOf } from "./standing.js";

/** @import { Failure, Judgement, Person, Progress, ReviewedRow, ReviewRequest, RowVerdict } from "../types.d.ts" */
/** @import { AddedReview } from "./standing.js" */
/** @typedef {(rows: ReviewedRow[], failed?: FailedStep | null) => void} Changed */
/** @typedef {{ error: Failure, step: RowVerdict[] }} FailedStep A step that the service did not store. */

export class Reviews {
  /**
   * @param {string} run
   * @param {string} queue
   * @param {object} options
   * @param {Person} options.person The reviewer.
   * @param {number} options.overlap Number of reviewers that each row needs.
   * @param {boolean} options.checks True to store a verdict only if nobody else has reviewed the row in the meantime.
   * @param {Changed} options.changed Called with the rows of a step, which are changed in place, when the step is sent
   *   and when it is stored; with the step and an error if the service could not store it.
   */
  constructor(run, queue, { person, overlap, checks, changed }) {
    this.run = run;
    this.queue = queue;
    this.person = person;
    this.overlap = overlap;
    this.checks = checks;
    this.changed = changed;
    /** @type {RowVerdict[][]} The verdicts before each step, for `undo`. */
    this.history = [];
    /** @type {Promise<void>} Resolves when all steps are stored or have failed. */
    this.pending = Promise.resolve();
    this.unsaved = 0;
    this.counts = noCounts();
    /** @type {Progress | null} The progress of the run after the last stored step. */
    this.progress = null;
  }

  /** The person's own review of a row that counts; undefined if there is none. @param {ReviewedRow} row */
  own(row) {
    return reviewOf(row, this.person.name);
  }

  /**
   * True if a row waits for the person's verdict.
   *
   * @param {ReviewedRow} row
   */
  isOpen(row) {
    if (row.saving) return false;
    return this.overlap > 1 ? !row.done && !this.own(row) : row.verdict === null;
  }

  /**
   * Set verdicts of rows as one step. The rows keep their verdicts if the service cannot store the step.
   *
   * @param {RowVerdict[]} step
   * @param {{ checks?: boolean }} options `checks`: false to store it whatever others have said in the meantime.
   */
  set(step, { checks = this.checks } = {}) {
    const before = step.map(({ row, adjudicate }) => ({ row, adjudicate, ...this.#before(row, adjudicate) }));
    this.history.push(before);
    this.#send(step, { entry: before, isUndo: false, checks });
  }

  /**
   * The person's verdict on a row, or the adjudication of it. A verdict in flight is the one to return to.
   *
   * @param {ReviewedRow} row
   * @param {boolean | undefined} adjudicate
   * @returns {Judgement}
   */
  #before(row, adjudicate) {
    if (row.pending && Boolean(row.pending.adjudicate) === Boolean(adjudicate)) return row.pending;
    const { verdict = null, label = null, comment = null } = (adjudicate ? adjudicationOf(row) : this.own(row)) || {};
    return { verdict, label, comment };
  }

  /**
   * Take back the last step, or else the person's verdict on the current row. Returns the rows, null if there is
   * nothing to undo.
   *
   * @param {ReviewedRow | null} current
   */
  undo(current) {
    const last = this.history.pop();
    if (last) {
      this.#send(last, { entry: last, isUndo: true, checks: this.checks });
      return last.map(({ row }) => row);
    }
    if (!current || !this.own(current)) return null;
    this.#send([{ row: current, verdict: null, label: null }], { isUndo: true, checks: this.checks });
    return [current];
  }

  /**
   * @param {RowVerdict[]} step
   * @param {{ entry?: RowVerdict[], isUndo: boolean, checks: boolean }} options `entry`: that of the history.
   */
  #send(step, { entry, isUndo, checks }) {
    const rows = step.map(({ row }) => row);
    for (const { row, verdict, label, comment = null, adjudicate } of step) {
      row.saving = (row.saving || 0) + 1;
      row.pending = { verdict, label, comment, adjudicate };
    }
    this.unsaved += 1;
    this.changed(rows);
    this.pending = this.pending.then(async () => {
      let failed = null;
      // The steps before this one have changed what is expected.
      const requests = step.map((verdict) => this.#request(verdict, checks));
      try {
        const reply = await postReviews(this.run, requests);
        this.progress = reply;
        step.forEach(({ row }, place) => this.#store(row, requests[place], reply.reviews[place]));
      } catch (error) {
        failed = { error, step };
        // A step that was not stored cannot be undone, and an undo that was not stored can be repeated.
        if (!isUndo) this.history = this.history.filter((other) => other !== entry);
        else if (entry) this.history.push(entry);
      }
      for (const row of rows) {
        row.saving = (row.saving || 0) - 1;
        if (!row.saving) row.pending = null;
      }
      this.unsaved -= 1;
      this.changed(rows, failed);
    });
  }

  /**
   * @param {RowVerdict} verdict
   * @param {boolean} checks
   * @returns {ReviewRequest}
   */
  #request({ row, verdict, label, comment, adjudicate }, checks) {
    return {
      id: row.id,
      ...(row.unit !== undefined && { unit: row.unit }),
      verdict,
      label: verdict === "wrong" ? label : null,
      queue: this.queue,
      ...(comment && { comment }),
      ...(!this.person.fromKey && this.person.name && { reviewer: this.person.name }),
      ...(checks && { expected: row.review }),
      ...(adjudicate && { adjudicate }),
    };
  }

  /**
   * @param {ReviewedRow} row
   * @param {ReviewRequest} request
   * @param {string} review The id of the stored review.
   */
  #store(row, { verdict, label, comment = null, adjudicate }, review) {
    const { name: reviewer } = this.person;
    const at = new Date().toISOString();
    this.add(row, { review, reviewer, verdict, label, comment, at, adjudicated: Boolean(adjudicate) });
  }

  /**
   * Add a stored review to a row.
   *
   * @param {ReviewedRow} row
   * @param {AddedReview} review
   */
  add(row, review) {
    if (row.verdict !== null) this.counts[row.verdict] -= 1;
    addReview(row, review);
    row.done = Boolean(adjudicationOf(row)) || row.reviews.length >= this.overlap;
    if (row.verdict !== null) this.counts[row.verdict] += 1;
  }
}

/** Changes of the numbers of rows by verdict since the last load of the queue. */
export const noCounts = () => ({ ok: 0, wrong: 0, unsure: 0, exclude: 0, conflict: 0 });
