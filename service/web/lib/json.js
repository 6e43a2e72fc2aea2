// A JSON value that can be read and folded.

import { h, number } from "./dom.js";

const LONGEST = 300; // characters of a text before it is cut: a picture may be one

/**
 * A value under its name; objects and lists fold.
 *
 * @param open Whether it is unfolded, with what is in it, until somebody folds it.
 * @param opened A Map that keeps what was folded and unfolded, by path, for the next time.
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
      entries.map(([each, part]) => json(part, each, { opened, path: `${path}\n${each}` })),
    ),
  );
  inner.addEventListener("toggle", () => opened.set(path, inner.open));
  return inner;
}

const key = (name) => h("span", { class: "json-key" }, name, ": ");

function leaf(value) {
  if (typeof value !== "string") return h("span", { class: "json-number" }, String(value));
  const cut = value.length > LONGEST;
  return h(
    "span",
    { class: "json-text", dir: "auto" },
    JSON.stringify(cut ? value.slice(0, LONGEST) : value),
    cut && h("span", { class: "muted" }, ` and ${number(value.length - LONGEST)} more characters`),
  );
}
