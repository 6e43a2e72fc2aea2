// Shows a JSON value as a tree that can be folded.

import { h, number } from "./dom.js";

const MAX_TEXT = 300; // characters shown of a text, which may be a whole picture

/**
 * A value under its name. Objects and lists can be folded.
 *
 * @param {unknown} value
 * @param {string} name
 * @param {object} [options]
 * @param {boolean} [options.open] True if the value starts unfolded; its members always do.
 * @param {Map<string, boolean>} [options.opened] Remembers by path which values are unfolded, for the next call.
 * @param {string} [options.path]
 * @returns {HTMLElement}
 */
export function json(value, name, { open = true, opened = new Map(), path = name } = {}) {
  if (value === null || typeof value !== "object") return h("div", { class: "json-leaf" }, key(name), leaf(value));
  const entries = Object.entries(value);
  const [before, after] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (!entries.length) return h("div", { class: "json-leaf" }, key(name), `${before}${after}`);
  const inner = h(
    "details",
    { open: opened.get(path) ?? open },
    h("summary", {}, key(name), h("span", { class: "muted" }, `${before} ${number(entries.length)} ${after}`)),
    h(
      "div",
      { class: "json-inner" },
      entries.map(([member, part]) => json(part, member, { opened, path: `${path}\n${member}` })),
    ),
  );
  inner.addEventListener("toggle", () => opened.set(path, inner.open));
  return inner;
}

/** @param {string} name */
const key = (name) => h("span", { class: "json-key" }, name, ": ");

/** @param {unknown} value */
function leaf(value) {
  if (typeof value !== "string") return h("span", { class: "json-number" }, String(value));
  const cut = value.length > MAX_TEXT;
  return h(
    "span",
    { class: "json-text", dir: "auto" },
    JSON.stringify(cut ? value.slice(0, MAX_TEXT) : value),
    cut && h("span", { class: "muted" }, ` and ${number(value.length - MAX_TEXT)} more characters`),
  );
}
