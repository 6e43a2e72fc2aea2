// The row under review: its content and the buttons for its verdict.

import { h, number, problem, sentence } from "../../lib/dom.js";
import { ACTIONS, keyLabel } from "../../lib/keys.js";
import { isStructured, unitKey } from "../../lib/units.js";
import { elementContent } from "../elements/element_content.js";
import { exampleContent } from "../example_content.js";
import { className, labels, unitBadge, verdictBadge } from "../labels.js";
import { CommentBox } from "./comment_box.js";
import { exampleLink } from "./queue_table.js";
import { rowReviews } from "./row_reviews.js";

/** @import { Judgement, Person, ReviewedRow, Run } from "../../types.d.ts" */
/** @import { ElementsCache } from "../../lib/elements_cache.js" */

/** Actions that set a verdict. */
const VERDICTS = ["keep", "accept", "other", "unsure", "exclude", "undo"];
/** Actions that need a row. */
const ROW_ACTIONS = ["keep", "accept", "other", "unsure", "exclude", "skip"];

export class FocusCard {
  /**
   * @param {Run} run
   * @param {string} queue
   * @param {object} options
   * @param {(action: string) => void} options.act Called with the name of an action of `ACTIONS`.
   * @param {ElementsCache} options.elements Asked in structured runs only.
   * @param {Person} options.person
   * @param {(comment: string) => void} options.saveComment
   * @param {(judgement: Judgement) => void} options.settle
   * @param {() => void} options.settleOther
   */
  constructor(run, queue, { act, elements, person, saveComment, settle, settleOther }) {
    this.run = run;
    this.queue = queue;
    this.elements = elements;
    this.person = person;
    this.settling = { person, settle, settleOther };
    this.comment = new CommentBox(person.name, saveComment);
    /** The content of the row that is shown, by its key: the row is shown again after each verdict. */
    this.shown = { key: "", content: h("div", {}) };
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
    const { keep, accept, other, unsure, exclude, skip, undo, next, previous, help } = this.buttons;
    for (const name of VERDICTS) if (!person.canReview) this.buttons[name].hidden = true;
    this.element = h(
      "div",
      { class: "card" },
      this.content,
      person.canReview ? this.comment.element : h("p", { class: "hint" }, "Your key may read, but not review."),
      h(
        "div",
        { class: "actions", role: "group", "aria-label": "Verdict" },
        keep,
        accept,
        other,
        unsure,
        exclude,
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
    const { target, suggested, unit } = row;
    for (const name of ROW_ACTIONS) buttons[name].disabled = false;
    this.comment.show(row);
    this.comment.element.hidden = false;
    buttons.accept.disabled = suggested === null;
    // A label is right or wrong: there is no third class to choose.
    buttons.other.disabled = run.task === "multi_label" && target !== null;
    const none = row.suggestion === "hidden" ? "Suggestion hidden until your verdict" : "No suggestion";
    setLabel(buttons.accept, suggested === null ? none : `Accept ${className(run, suggested, unit)}`);
    setLabel(buttons.keep, target === null ? "Keep all labels" : `Keep ${className(run, target, unit)}`);
    setLabel(buttons.other, target === null ? "Wrong" : "Other …");
    this.content.replaceChildren(
      h(
        "div",
        { class: "focus-head" },
        h("span", { class: "muted" }, `Row ${number(row.rank)} of ${number(numRows)}, ${number(numReviewed)} reviewed`),
        verdictBadge(run, row),
      ),
      h("p", { class: "big-labels" }, labels(run, row), " ", unitBadge(run, row)),
      isStructured(run) ? this.#elements(row) : exampleContent(row, { all: true }),
      h("p", { class: "reason" }, sentence(row.reason)),
      rowReviews(run, row, this.settling) || "",
      h("p", { class: "more" }, exampleLink(run.run, this.queue, row)),
    );
  }

  /**
   * The content of a structured example, which is loaded.
   *
   * @param {ReviewedRow} row
   */
  #elements(row) {
    const key = unitKey(row);
    if (this.shown.key === key) return this.shown.content;
    const content = h("div", { "aria-busy": "true" }, h("p", { class: "muted" }, "Loading …"));
    this.shown = { key, content };
    this.elements.get(row.id).then(
      (elements) => content.replaceChildren(elementContent(this.run, row, elements)),
      (error) => error.name !== "AbortError" && content.replaceChildren(problem(error)),
    ).finally(() => content.removeAttribute("aria-busy"));
    return content;
  }

  /**
   * Show that there is no row.
   *
   * @param {string} message
   */
  clear(message) {
    for (const name of ROW_ACTIONS) this.buttons[name].disabled = true;
    this.comment.element.hidden = true;
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
