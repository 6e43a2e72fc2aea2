// The verdicts of a queue: each is sent at once, in the order they were given, and counts when the service has it.

import { call, path } from "./api.js";

export class Reviews {
  /**
   * @param run The name of the run.
   * @param queue A queue as the API tells it; its rows are changed in place.
   * @param changed Called with a row and, where it could not be kept, the error.
   */
  constructor(run, queue, changed) {
    this.run = run;
    this.queue = queue;
    this.changed = changed;
    this.done = [];
    this.waiting = Promise.resolve();
    this.unsaved = 0;
  }

  /** Say something of a row. It stays as it was if the service does not take it. */
  say(row, verdict, label = null) {
    // What is on its way already counts as said.
    this.done.push({ row, ...(row.said || { verdict: row.verdict, label: row.verdict_label }) });
    this.#send(row, verdict, label);
  }

  /** Take back the last that was said, else what was said of this row; the row it was about, or null. */
  undo(current) {
    const last = this.done.pop();
    if (!last && (!current || current.verdict === null)) return null;
    const row = last ? last.row : current;
    this.#send(row, last?.verdict ?? null, last?.label ?? null, last);
    return row;
  }

  #send(row, verdict, label, undone = null) {
    row.saving = (row.saving || 0) + 1;
    row.said = { verdict, label };
    this.unsaved += 1;
    this.changed(row);
    const entry = undone ? null : this.done[this.done.length - 1];
    const review = { id: row.id, verdict, label: verdict === "wrong" ? label : null, queue: this.queue.name };
    this.waiting = this.waiting.then(async () => {
      let failed = null;
      try {
        this.progress = await call("POST", path("runs", this.run, "reviews"), [review]);
        row.verdict = verdict;
        row.verdict_label = review.label;
      } catch (error) {
        failed = error;
        // What was not kept cannot be taken back, and what was not taken back still can.
        if (undone) this.done.push(undone);
        else this.done = this.done.filter((one) => one !== entry);
      }
      row.saving -= 1;
      if (!row.saving) row.said = null;
      this.unsaved -= 1;
      this.changed(row, failed);
    });
  }
}
