// Sets a verdict of many rows: the selection, and the bar of buttons over the table.

import { dialog, h, number } from "../../lib/dom.js";
import { reviewOf } from "../../lib/standing.js";
import { isStructured, unitKey } from "../../lib/units.js";
import { className } from "../labels.js";

/** @import { Classes, Judgement, Person, ReviewedRow, RowVerdict } from "../../types.d.ts" */

/** The largest number of verdicts that the service takes in one request. */
export const MAX_SELECTED = 10_000;
/** Above this number of rows the user has to confirm. */
const MAX_UNCONFIRMED = 20;

export class Selection {
  /** @param {() => void} changed Called after each change. */
  constructor(changed) {
    /** @type {Map<string, ReviewedRow>} Selected rows by `unitKey`. */
    this.byKey = new Map();
    this.changed = changed;
  }

  get size() {
    return this.byKey.size;
  }

  /** @param {ReviewedRow} row */
  has(row) {
    return this.byKey.has(unitKey(row));
  }

  /** The selected rows by rank. */
  get rows() {
    return [...this.byKey.values()].sort((a, b) => a.rank - b.rank);
  }

  /**
   * Select rows, up to `MAX_SELECTED`, or deselect them.
   *
   * @param {ReviewedRow[]} rows
   * @param {boolean} selected
   */
  set(rows, selected) {
    for (const row of rows) {
      if (!selected) this.byKey.delete(unitKey(row));
      else if (this.byKey.size < MAX_SELECTED || this.byKey.has(unitKey(row))) this.byKey.set(unitKey(row), row);
    }
    this.changed();
  }

  clear() {
    this.byKey.clear();
    this.changed();
  }
}

/**
 * A bar of buttons that is shown while rows are selected.
 *
 * @param {Classes} run
 * @param {Selection} selection
 * @param {Person} person
 * @param {object} actions
 * @param {(step: RowVerdict[], message: string) => void} actions.review Sets the verdicts and shows the message.
 * @param {(act: (label: number) => void) => void} actions.chooseClass Asks for a class.
 */
export function bulkBar(run, selection, person, { review, chooseClass }) {
  const count = h("strong", {});
  /** @type {(text: string, act: () => void, attributes?: object) => HTMLButtonElement} */
  const button = (text, act, attributes = {}) => h("button", { type: "button", onclick: act, ...attributes }, text);
  const bar = h(
    "div",
    { class: "bulk", role: "group", "aria-label": "All selected rows" },
    count,
    button("Keep all", () => apply("Keep the given label of", () => ({ verdict: "ok", label: null }), "kept")),
    button("Accept suggestions", () =>
      apply(
        "Accept the suggestion for",
        (row) => row.suggested === null ? null : { verdict: "wrong", label: row.suggested },
        "accepted",
        "without a suggestion",
      )),
    run.task !== "multi_label" && button("Other label …", () =>
      chooseClass((label) =>
        apply(
          `Set the label ${className(run, label)} for`,
          (row) => row.target === null || row.target === label ? null : { verdict: "wrong", label },
          `labelled ${className(run, label)}`,
          isStructured(run) ? "that cannot have this label" : "with this label already",
        )
      )),
    button("Exclude all", () => apply("Exclude", () => ({ verdict: "exclude", label: null }), "excluded")),
    button("Take back", () =>
      apply(
        "Take back your verdicts of",
        (row) => reviewOf(row, person.name) ? { verdict: null, label: null } : null,
        "taken back",
        "without a verdict of yours",
      )),
    button("Select none", () => selection.clear(), { class: "quiet" }),
  );
  const refresh = () => {
    bar.hidden = selection.size === 0 || !person.canReview;
    count.textContent = `${number(selection.size)} selected`;
  };
  refresh();
  return Object.assign(bar, { refresh });

  /**
   * Set verdicts of the selected rows, after a confirmation if there are many.
   *
   * @param {string} question Without the number of rows.
   * @param {(row: ReviewedRow) => Judgement | null} judge Null leaves the row as it is.
   * @param {string} done The message, after the number of rows.
   * @param {string} skipped Describes the rows that stay as they are.
   */
  function apply(question, judge, done, skipped = "") {
    /** @type {RowVerdict[]} */
    const step = [];
    for (const row of selection.rows) {
      const judgement = judge(row);
      if (judgement) step.push({ row, ...judgement });
    }
    const left = selection.size - step.length;
    const rest = left ? `; ${number(left)} ${skipped} ${left === 1 ? "stays as it is" : "stay as they are"}` : "";
    const act = () => review(step, `${countRows(step.length)} ${done}${rest}. `);
    if (step.length <= MAX_UNCONFIRMED) act();
    else confirm(`${question} ${countRows(step.length)}?`, `It is one step, which Undo takes back${rest}.`, act);
  }
}

/** @param {number} count */
const countRows = (count) => `${number(count)} ${count === 1 ? "row" : "rows"}`;

/**
 * Ask before an action.
 *
 * @param {string} question
 * @param {string} explanation
 * @param {() => void} act
 */
function confirm(question, explanation, act) {
  dialog(
    question,
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, question),
      h("p", { class: "muted" }, explanation),
      h(
        "div",
        { class: "buttons" },
        h("button", { value: "", type: "submit" }, "Cancel"),
        h("button", { class: "primary", value: "yes", autofocus: true }, "Do it"),
      ),
    ),
    act,
  );
}
