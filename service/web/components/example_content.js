// The content of an example: its picture, text and other attributes.

import { h } from "../lib/dom.js";

/** @import { Attributes } from "../types.d.ts" */

const IMAGE_END = /\.(png|jpe?g|gif|webp|avif|svg|bmp)$/i;

/**
 * The address of the picture that an attribute holds, or null. SVG is safe: as an image it runs no script.
 *
 * @param {string} name
 * @param {unknown} value
 */
export function pictureOf(name, value) {
  if (typeof value !== "string") return null;
  if (/^data:image\//i.test(value)) return value;
  if (!/^https?:\/\//i.test(value)) return null;
  try {
    return /^(image|picture|thumbnail)(_url)?$/i.test(name) || IMAGE_END.test(new URL(value).pathname) ? value : null;
  } catch {
    return null;
  }
}

/**
 * The picture of an example and its text; the other attributes if it has neither.
 *
 * @param {{ id: string, attributes: Attributes }} row
 * @param {object} [options]
 * @param {boolean} [options.all] True to show the other attributes too.
 */
export function exampleContent(row, { all = false } = {}) {
  const attributes = Object.entries(row.attributes || {}).filter(([, value]) => value !== null);
  const picture = attributes.find(([name, value]) => pictureOf(name, value));
  const text = attributes.find(([name, value]) => name === "text" && typeof value === "string") ||
    attributes.find(([name, value]) => name === "tokens" && Array.isArray(value));
  /** @type {HTMLElement[]} */
  const content = [];
  if (picture) content.push(h("img", { src: picture[1], alt: `Example ${row.id}`, loading: "lazy", class: "picture" }));
  if (text) {
    content.push(h("p", { class: "text", dir: "auto" }, Array.isArray(text[1]) ? text[1].join(" ") : String(text[1])));
  }
  const others = attributes.filter((attribute) => attribute !== picture && attribute !== text);
  if (others.length && (all || !content.length)) {
    content.push(h(
      "dl",
      { class: "pairs" },
      others.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, String(value)))),
    ));
  }
  if (!content.length) content.push(h("p", { class: "muted" }, "This example has no attributes."));
  return h("div", { class: "example" }, content);
}
