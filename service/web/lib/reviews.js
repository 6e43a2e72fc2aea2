// The verdicts of a queue. Each step is sent at once, in order, and counts when the service has stored it.

import { postReviews } from "./runs_api.js";

/** @import { Failure, Progress, ReviewedRow, RowVerdict } from "../types.d.ts" */
/** @typedef {(rows: ReviewedRow[], error?: Failure | null) => void} Changed */

export class Reviews {
  /**
   * @param {string} run
   * @param {string} queue
   * @param {Changed} changed Called with the rows of a step, which are changed in place, when the step is sent and when
   *   it is stored; with an error if the service could not store it.
   */
  constructor(run, queue, changed) {
    this.run = run;
    this.queue = queue;
    this.changed = changed;
    /** @type {RowVerdict[][]} The verdicts before each step, for `undo`. */
    this.history = [];
    /** @type {Promise<void>} Resolves when all steps are stored or have failed. */
    this.pending = Promise.resolve();
    this.unsaved = 0;
    /** Verdicts stored since the last load of the queue. */
    this.counts = { ok: 0, wrong: 0, unsure: 0 };
    /** @type {Progress | null} The progress of the run after the last stored step. */
    this.progress = null;
  }

  /**
   * Set verdicts of rows as one step. The rows keep their verdicts if the service cannot store the step.
   *
   * @param {RowVerdict[]} step
   */
  set(step) {
    // A verdict in flight is the one to return to.
    const before = step.map(({ row }) => ({
      row,
      ...(row.pending || { verdict: row.verdict, label: row.verdict_label }),
    }));
    this.history.push(before);
    this.#send(step, before, false);
  }

  /**
   * Take back the last step, or else the verdict of the current row. Returns the rows, null if there is nothing to undo.
   *
   * @param {ReviewedRow | null} current
   */
  undo(current) {
    const last = this.history.pop();
    if (last) {
      this.#send(last, last, true);
      return last.map(({ row }) => row);
    }
    if (!current || current.verdict === null) return null;
    this.#send([{ row: current, verdict: null, label: null }], undefined, true);
    return [current];
  }

  /**
   * @param {RowVerdict[]} step
   * @param {RowVerdict[] | undefined} entry The entry of the history.
   * @param {boolean} isUndo
   */
  #send(step, entry, isUndo) {
    const rows = step.map(({ row }) => row);
    for (const { row, verdict, label } of step) {
      row.saving = (row.saving || 0) + 1;
      row.pending = { verdict, label };
    }
    this.unsaved += 1;
    this.changed(rows);
    const reviews = step.map(({ row, verdict, label }) => ({
      id: row.id,
      ...(row.unit !== undefined && { unit: row.unit }),
      verdict,
      label: verdict === "wrong" ? label : null,
      queue: this.queue,
    }));
    this.pending = this.pending.then(async () => {
      let failure = null;
      try {
        this.progress = await postReviews(this.run, reviews);
        step.forEach(({ row, verdict }, place) => this.#store(row, verdict, reviews[place].label));
      } catch (error) {
        failure = error;
        // A step that was not stored cannot be undone, and an undo that was not stored can be repeated.
        if (!isUndo) this.history = this.history.filter((other) => other !== entry);
        else if (entry) this.history.push(entry);
      }
      for (const row of rows) {
        row.saving = (row.saving || 0) - 1;
        if (!row.saving) row.pending = null;
      }
      this.unsaved -= 1;
      this.changed(rows, failure);
    });
  }

  /**
   * @param {ReviewedRow} row
   * @param {ReviewedRow["verdict"]} verdict
   * @param {number | null} label
   */
  #store(row, verdict, label) {
    if (row.verdict !== null) this.counts[row.verdict] -= 1;
    if (verdict !== null) this.counts[verdict] += 1;
    row.verdict = verdict;
    row.verdict_label = label;
  }
}
