// The verdicts of a queue: each step is sent at once, in the order they were given, and counts when the service has it.

import { call, path } from "./api.js";

export class Reviews {
  /**
   * @param run The name of the run.
   * @param queue The name of the queue.
   * @param changed Called with the rows of a step and, where it could not be kept, the error; rows are changed in place.
   */
  constructor(run, queue, changed) {
    this.run = run;
    this.queue = queue;
    this.changed = changed;
    this.done = [];
    this.waiting = Promise.resolve();
    this.unsaved = 0;
    this.counted = { ok: 0, wrong: 0, unsure: 0 };
  }

  /** Say something of rows, as one step: `[{ row, verdict, label }]`. They stay as they were if the service does not take it. */
  say(step) {
    // What is on its way already counts as said.
    const before = step.map(({ row }) => ({
      row,
      ...(row.said || { verdict: row.verdict, label: row.verdict_label }),
    }));
    this.done.push(before);
    this.#send(step, before, false);
  }

  /** Take back the last step, else what was said of this row; the rows it was about, or null. */
  undo(current) {
    const last = this.done.pop();
    if (!last && (!current || current.verdict === null)) return null;
    const step = last || [{ row: current, verdict: null, label: null }];
    this.#send(step, last, true);
    return step.map(({ row }) => row);
  }

  #send(step, entry, undone) {
    const rows = step.map(({ row }) => row);
    for (const { row, verdict, label } of step) {
      row.saving = (row.saving || 0) + 1;
      row.said = { verdict, label };
    }
    this.unsaved += 1;
    this.changed(rows);
    const reviews = step.map(({ row, verdict, label }) => ({
      id: row.id,
      verdict,
      label: verdict === "wrong" ? label : null,
      queue: this.queue,
    }));
    this.waiting = this.waiting.then(async () => {
      let failed = null;
      try {
        this.progress = await call("POST", path("runs", this.run, "reviews"), reviews);
        step.forEach(({ row, verdict }, place) => this.#keep(row, verdict, reviews[place].label));
      } catch (error) {
        failed = error;
        // What was not kept cannot be taken back, and what was not taken back still can.
        if (!undone) this.done = this.done.filter((one) => one !== entry);
        else if (entry) this.done.push(entry);
      }
      for (const row of rows) {
        row.saving -= 1;
        if (!row.saving) row.said = null;
      }
      this.unsaved -= 1;
      this.changed(rows, failed);
    });
  }

  #keep(row, verdict, label) {
    if (row.verdict !== null) this.counted[row.verdict] -= 1;
    if (verdict !== null) this.counted[verdict] += 1;
    row.verdict = verdict;
    row.verdict_label = label;
  }
}
