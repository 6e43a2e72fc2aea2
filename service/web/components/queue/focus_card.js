// The row under review: its content and the buttons for its verdict.

import { h, number, sentence } from "../../lib/dom.js";
import { ACTIONS, keyLabel } from "../../lib/keys.js";
import { exampleContent } from "../example_content.js";
import { className, labels, verdictBadge } from "../labels.js";
import { exampleLink } from "./queue_table.js";

/** @import { ReviewedRow, Run } from "../../types.d.ts" */

/** Actions that need a row. */
const ROW_ACTIONS = ["keep", "accept", "other", "unsure", "skip"];

export class FocusCard {
  /**
   * @param {Run} run
   * @param {string} queue
   * @param {(action: string) => void} act Called with the name of an action of `ACTIONS`.
   */
  constructor(run, queue, act) {
    this.run = run;
    this.queue = queue;
    this.content = h("div", { class: "focus-content" });
    this.buttons = Object.fromEntries(ACTIONS.map(([name, keys, label, description]) => [
      name,
      h(
        "button",
        {
          type: "button",
          class: `act ${name}`,
          title: description,
          "aria-keyshortcuts": keys.join(" "),
          onclick: () => act(name),
        },
        h("span", {}, label),
        h("kbd", { "aria-hidden": "true" }, keyLabel(keys[0])),
      ),
    ]));
    const { keep, accept, other, unsure, skip, undo, next, previous, help } = this.buttons;
    this.element = h(
      "div",
      { class: "card" },
      this.content,
      h(
        "div",
        { class: "actions", role: "group", "aria-label": "Verdict" },
        keep,
        accept,
        other,
        unsure,
        h("div", { class: "small-actions" }, skip, undo, help, previous, next),
      ),
    );
  }

  /**
   * @param {ReviewedRow} row
   * @param {number} numRows
   * @param {number} numReviewed
   */
  show(row, numRows, numReviewed) {
    const { run, buttons } = this;
    for (const name of ROW_ACTIONS) buttons[name].disabled = false;
    buttons.accept.disabled = row.suggested === null;
    setLabel(buttons.accept, row.suggested === null ? "No suggestion" : `Accept ${className(run, row.suggested)}`);
    setLabel(buttons.keep, `Keep ${className(run, row.target)}`);
    this.content.replaceChildren(
      h(
        "div",
        { class: "focus-head" },
        h("span", { class: "muted" }, `Row ${number(row.rank)} of ${number(numRows)}, ${number(numReviewed)} reviewed`),
        verdictBadge(run, row),
      ),
      h("p", { class: "big-labels" }, labels(run, row)),
      exampleContent(row, { all: true }),
      h("p", { class: "reason" }, sentence(row.reason)),
      h("p", { class: "more" }, exampleLink(run.run, this.queue, row)),
    );
  }

  /**
   * Show that there is no row.
   *
   * @param {string} message
   */
  clear(message) {
    for (const name of ROW_ACTIONS) this.buttons[name].disabled = true;
    this.content.replaceChildren(h("p", { class: "muted" }, message));
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} text
 */
function setLabel(button, text) {
  /** @type {Element} */ (button.firstElementChild).textContent = text;
}
