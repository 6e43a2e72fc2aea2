// Creates elements. Text is inserted as text, never as markup: a data set may contain anything.

/** @import { Child } from "../types.d.ts" */

/**
 * Create an element. Attributes named `on...` add listeners; null, undefined and false leave an attribute out.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") Object.assign(element, { value });
    else element.setAttribute(name, value === true ? "" : value);
  }
  const shown = children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);
  element.append(.../** @type {(Node | string)[]} */ (shown));
  return element;
}

/**
 * The first element that matches a selector, which has to exist.
 *
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function find(parent, selector) {
  const element = parent.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`no element matches ${selector}`);
  return element;
}

/**
 * The head of a table. A name in a list of its own heads a column of numbers; false leaves a column out.
 *
 * @param {...Child} names
 */
export function head(...names) {
  return h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.filter((name) => name !== false).map((name) =>
        h("th", { scope: "col", class: Array.isArray(name) && "num" }, name)
      ),
    ),
  );
}

/**
 * A horizontal bar filled to a share from 0 to 1. A script sets the width, as the policy forbids style attributes.
 *
 * @param {number | null} share
 */
export function bar(share, kind = "") {
  const inner = h("span", { class: `bar-fill ${kind}` });
  inner.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, inner);
}

/**
 * Format a number with four significant digits; a dash for null.
 *
 * @param {number | null | undefined} value
 */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

/**
 * Format a share from 0 to 1 as a percentage; a dash for null.
 *
 * @param {number | null | undefined} share
 */
export function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}\u00a0%`;
}

/**
 * A sentence of the service, with no line break between a number and its percent sign.
 *
 * @param {string} text
 */
export const sentence = (text) => text.replaceAll(" %", "\u00a0%");

/**
 * A time in the reader's time zone.
 *
 * @param {string} text ISO 8601
 */
export function when(text) {
  const date = new Date(text);
  return h(
    "time",
    { datetime: text, title: date.toISOString() },
    date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }),
  );
}

/**
 * Announce a text to screen readers.
 *
 * @param {string} text
 */
export function announce(text) {
  find(document, "#status").textContent = text;
}

/**
 * A notice with the title and message of an error.
 *
 * @param {{ title?: string, message: string }} error
 */
export function problem(error) {
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", {}, error.title || "Something went wrong"),
    h("p", {}, error.message),
  );
}

export function loading(text = "Loading …") {
  return h("p", { class: "muted loading" }, text);
}

/**
 * Open a modal dialog, which is removed when it closes. Closing it with a value calls `done`.
 *
 * @param {string} label
 * @param {Child} content
 * @param {(value: string) => void} done
 */
export function dialog(label, content, done = () => {}) {
  const before = document.activeElement;
  const element = h("dialog", { "aria-label": label }, content);
  element.addEventListener("close", () => {
    element.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
    if (element.returnValue) done(element.returnValue);
  });
  document.body.append(element);
  element.showModal();
  return element;
}
