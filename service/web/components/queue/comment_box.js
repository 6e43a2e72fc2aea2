// The comment for the person's verdict on the row under review.

import { h } from "../../lib/dom.js";
import { reviewOf } from "../../lib/standing.js";
import { unitKey } from "../../lib/units.js";

/** @import { ReviewedRow } from "../../types.d.ts" */

const MAX_LENGTH = 10_000;

export class CommentBox {
  /**
   * @param {string | null} reviewer
   * @param {(comment: string) => void} save Stores the person's verdict on the row again, with the comment.
   */
  constructor(reviewer, save) {
    this.reviewer = reviewer;
    /** @type {ReviewedRow | null} */
    this.row = null;
    /** @type {Map<string, string>} Comments that are not stored yet, by the key of their row. */
    this.drafts = new Map();
    this.input = h("input", {
      id: "comment",
      maxlength: MAX_LENGTH,
      autocomplete: "off",
      placeholder: "goes with your verdict",
      oninput: () => this.#typed(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        // The keys of the review work again after either.
        if (event.key === "Enter" && !this.button.hidden) this.button.click();
        if (event.key === "Enter" || event.key === "Escape") this.input.blur();
      },
    });
    this.button = h("button", { type: "button", onclick: () => save(this.value) }, "Save comment");
    this.element = h(
      "div",
      { class: "comment-box" },
      h("label", { for: "comment" }, "Comment"),
      h("div", {}, this.input, this.button),
    );
  }

  /** The comment as it stands in the box. */
  get value() {
    return this.input.value.trim();
  }

  /** @param {ReviewedRow} row */
  show(row) {
    const stored = this.#stored(row);
    const text = this.drafts.get(unitKey(row)) ?? stored;
    this.row = row;
    if (this.input.value !== text) this.input.value = text;
    this.#refresh();
  }

  /** The comment for a verdict on the row, which is stored with it. */
  take() {
    if (this.row) this.drafts.delete(unitKey(this.row));
    return this.value || null;
  }

  /**
   * Keep a comment that could not be stored.
   *
   * @param {ReviewedRow} row
   * @param {string} comment
   */
  keep(row, comment) {
    this.drafts.set(unitKey(row), comment);
  }

  #typed() {
    if (this.row) this.drafts.set(unitKey(this.row), this.input.value);
    this.#refresh();
  }

  /** A verdict takes the comment along; without a new verdict it needs the button. */
  #refresh() {
    const { row } = this;
    this.button.hidden = !row || !reviewOf(row, this.reviewer) || this.value === this.#stored(row);
  }

  /** @param {ReviewedRow} row */
  #stored(row) {
    return reviewOf(row, this.reviewer)?.comment ?? "";
  }
}
