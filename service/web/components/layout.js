// Parts of every view: the breadcrumbs, the head of a run's views, cards and tiles.

import { announce, h } from "../lib/dom.js";
import { address, toRun } from "../lib/route.js";

/** @import { Child } from "../types.d.ts" */

/**
 * Breadcrumbs. The last one, without an address, is the current view.
 *
 * @param {...[text: string, href?: string]} links
 */
export function crumbs(...links) {
  return h(
    "nav",
    { class: "crumbs", "aria-label": "Where you are" },
    h(
      "ol",
      {},
      links.map(([text, href]) =>
        h("li", {}, href ? h("a", { href }, text) : h("span", { "aria-current": "page" }, text))
      ),
    ),
  );
}

/** The views of a run: their last part in the address, and their titles. */
const RUN_VIEWS = [
  ["", "Overview"],
  ["examples", "Examples"],
  ["classes", "Classes"],
  ["map", "Data map"],
  ["compare", "Compare"],
  ["export", "Export"],
];

/**
 * The head of a view of a run: breadcrumbs, the run's name, and links to its other views.
 *
 * @param {string} run
 * @param {string} current The last part of the view's address.
 */
export function runHead(run, current) {
  return [
    crumbs(["Runs", "#/"], [run]),
    h("h1", { class: "wrap" }, run),
    h(
      "nav",
      { class: "places", "aria-label": `Views of ${run}` },
      h(
        "ul",
        {},
        RUN_VIEWS.map(([place, text]) =>
          h(
            "li",
            {},
            h("a", {
              href: place ? address(["runs", run, place]) : toRun(run),
              "aria-current": place === current ? "page" : null,
            }, text),
          )
        ),
      ),
    ),
  ];
}

/**
 * A card with a heading.
 *
 * @param {string} title
 * @param {...Child} content
 */
export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

/**
 * A number under its name, with a note below. Belongs into a `dl`.
 *
 * @param {string} name
 * @param {Child} value
 * @param {Child} note
 */
export function tile(name, value, note) {
  return h(
    "div",
    { class: "tile" },
    h("dt", {}, name),
    h("dd", {}, h("strong", {}, value), note && h("small", {}, note)),
  );
}

/**
 * A button that copies a text. Null if the browser has no clipboard for this page, as without HTTPS.
 *
 * @param {string} text
 */
export function copyButton(text) {
  if (!navigator.clipboard) return null;
  const button = h("button", {
    type: "button",
    class: "quiet",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        announce("Copied.");
      } catch {
        announce("The browser does not let this page copy.");
      }
    },
  }, "Copy");
  return button;
}
