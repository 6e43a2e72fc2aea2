// Saying the same of many rows: which are selected, and the bar that speaks for them.

import { dialog, h, number } from "../lib/dom.js";
import { className } from "./parts.js";

/** What the service takes in one step. */
export const MOST_SELECTED = 10_000;
const ASKS_ABOVE = 20;

export class Selection {
  /** @param changed Called after each change. */
  constructor(changed) {
    this.byId = new Map();
    this.changed = changed;
  }

  get size() {
    return this.byId.size;
  }

  has(row) {
    return this.byId.has(row.id);
  }

  /** All of them by rank. */
  get rows() {
    return [...this.byId.values()].sort((one, other) => one.rank - other.rank);
  }

  /** Select rows, or no longer; those past the bound are left out. How many were. */
  set(rows, chosen) {
    let left = 0;
    for (const row of rows) {
      if (!chosen) this.byId.delete(row.id);
      else if (this.byId.size < MOST_SELECTED || this.byId.has(row.id)) this.byId.set(row.id, row);
      else left += 1;
    }
    this.changed();
    return left;
  }

  clear() {
    this.byId.clear();
    this.changed();
  }
}

/**
 * The bar over the table while rows are selected.
 *
 * @param run As the API tells it.
 * @param selection The rows.
 * @param say Called with a step of `Reviews.say` and with what was done, in words.
 * @param chooseClass Asks for a class, and calls with it.
 */
export function bulkBar(run, selection, { say, chooseClass }) {
  const count = h("strong", {});
  const button = (text, act, attributes = {}) => h("button", { type: "button", onclick: act, ...attributes }, text);
  const bar = h(
    "div",
    { class: "bulk", role: "group", "aria-label": "All selected rows" },
    count,
    button("Keep all", () => apply("Keep the given label of", () => ({ verdict: "ok", label: null }), "kept")),
    button("Accept suggestions", () =>
      apply(
        "Accept the suggestion for",
        (row) => row.suggested !== null && { verdict: "wrong", label: row.suggested },
        "accepted",
        "without a suggestion",
      )),
    button(
      "Other label …",
      () =>
        chooseClass((label) =>
          apply(
            `Call them ${className(run, label)}:`,
            (row) => row.target !== label && { verdict: "wrong", label },
            `called ${className(run, label)}`,
            "with this label already",
          )
        ),
    ),
    button(
      "Take back",
      () =>
        apply(
          "Take back what was said of",
          (row) => row.verdict !== null && { verdict: null, label: null },
          "taken back",
          "not reviewed",
        ),
    ),
    button("Select none", () => selection.clear(), { class: "quiet" }),
  );
  bar.refresh = () => {
    bar.hidden = selection.size === 0;
    count.textContent = `${number(selection.size)} selected`;
  };
  bar.refresh();
  return bar;

  function apply(question, verdictOf, done, without = "") {
    const rows = selection.rows;
    const step = rows.map((row) => ({ row, ...(verdictOf(row) || {}) })).filter((one) => "verdict" in one);
    const left = rows.length - step.length;
    const rest = left
      ? `; ${number(left)} ${without} ${left === 1 ? "is" : "are"} left as ${left === 1 ? "it is" : "they are"}`
      : "";
    const act = () => say(step, `${rowsOf(step.length)} ${done}${rest}. `);
    if (step.length <= ASKS_ABOVE) act();
    else confirm(`${question} ${rowsOf(step.length)}?`, `It is one step, which Undo takes back${rest}.`, act);
  }
}

const rowsOf = (count) => `${number(count)} ${count === 1 ? "row" : "rows"}`;

function confirm(question, explained, act) {
  dialog(
    question,
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, question),
      h("p", { class: "muted" }, explained),
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
