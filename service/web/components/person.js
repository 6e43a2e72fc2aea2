// The name of the person at the page: shown and changed in the header, asked for once before a review.

import { dialog, h } from "../lib/dom.js";
import { rememberName, wasAsked } from "../lib/session.js";

/** @import { Person } from "../types.d.ts" */

const MAX_LENGTH = 200;

/**
 * The name and role in the header. The name of a key cannot be changed.
 *
 * @param {Person} person
 * @param {() => void} changed Called after a new name.
 */
export function personBadge({ name, fromKey, role, canReview }, changed) {
  const shownRole = role !== "owner" && role;
  if (fromKey || !canReview) return h("span", { class: "person" }, name, shownRole && h("small", {}, shownRole));
  return h(
    "button",
    { class: "quiet person", type: "button", onclick: () => askInDialog(name, changed) },
    name ? [h("span", { class: "hidden-text" }, "Your name: "), name] : "Your name …",
    shownRole && h("small", {}, shownRole),
  );
}

/**
 * @param {string | null} name
 * @param {() => void} changed
 */
function askInDialog(name, changed) {
  const input = nameInput("person-name", name || "");
  const box = dialog(
    "Your name",
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Your name"),
      h("label", { for: "person-name" }, "Stands beside your verdicts, on this computer until you change it"),
      input,
      h(
        "div",
        { class: "buttons" },
        // Not a submit button: Enter would press the first one.
        h("button", { type: "button", onclick: () => box.close() }, "Cancel"),
        h("button", { class: "primary", value: "save" }, "Save"),
      ),
    ),
    () => {
      rememberName(input.value);
      changed();
    },
  );
  input.select();
}

/**
 * A form that asks for the name. Null if the name is known, or the page has asked before.
 *
 * @param {Person} person
 * @param {() => void} changed Called after a new name.
 */
export function askForName({ name, canReview }, changed) {
  if (name || !canReview || wasAsked()) return null;
  const input = nameInput("ask-name", "");
  const without = () => {
    rememberName("");
    form.remove();
  };
  const form = h(
    "form",
    {
      class: "notice ask-name",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        rememberName(input.value);
        if (input.value.trim()) changed();
        else form.remove();
      },
    },
    h("label", { for: "ask-name" }, "Your name, so that others know whose verdicts these are"),
    h(
      "div",
      {},
      input,
      h("button", { class: "save" }, "Save"),
      h("button", { type: "button", class: "quiet", onclick: without }, "Not now"),
    ),
  );
  return form;
}

/**
 * @param {string} id
 * @param {string} value
 */
const nameInput = (id, value) => h("input", { id, value, maxlength: MAX_LENGTH, autocomplete: "name" });
