// Inputs of forms.

import { h } from "../lib/dom.js";

/** @import { Child } from "../types.d.ts" */

/**
 * @param {string} id
 * @param {Record<string, any>} attributes
 */
export function numberInput(id, attributes) {
  return h("input", { id, type: "number", ...attributes });
}

/**
 * Show inputs or hide them. Hidden inputs are disabled: they are not validated.
 *
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
export function showInputs(element, shown) {
  element.hidden = !shown;
  for (const input of element.querySelectorAll("input, select")) {
    /** @type {HTMLInputElement | HTMLSelectElement} */ (input).disabled = !shown;
  }
}

/**
 * A control under its label.
 *
 * @param {string} id Of the control.
 * @param {string} label
 * @param {HTMLElement} control
 */
export const field = (id, label, control) => h("div", {}, h("label", { for: id }, label), control);

/**
 * A labelled `select`. `act` is called with the chosen value.
 *
 * @param {string} id
 * @param {string} label
 * @param {string} value
 * @param {Child} options
 * @param {(value: string) => void} act
 */
export function choice(id, label, value, options, act) {
  const select = h("select", { id, onchange: () => act(select.value) }, options);
  select.value = value;
  return field(id, label, select);
}

/**
 * The option of a filter that is not set.
 *
 * @param {string} text
 */
export const anyOption = (text) => h("option", { value: "" }, text);
