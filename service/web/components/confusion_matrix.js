// The confusion matrix of a run.

import { h, number } from "../lib/dom.js";
import { className } from "./labels.js";
import { openPair } from "./queue/open_queue.js";

/** @import { Diagnostics, Refused, Run } from "../types.d.ts" */

const MAX_CLASSES = 20;

/**
 * Given labels against predictions. A number off the diagonal opens a queue of its examples.
 *
 * @param {Run} run
 * @param {Diagnostics} diagnostics
 * @param {HTMLElement} notice Gets the error if a queue cannot be made.
 * @param {Refused} refused
 */
export function confusionMatrix(run, { confusion, epoch }, notice, refused) {
  const { matrix, largest: pairs } = confusion;
  if (!pairs.length) return h("p", { class: "muted" }, "The model agrees with every label.");
  const numClasses = run.num_classes || 0;
  const classes = numClasses <= MAX_CLASSES
    ? Array.from({ length: numClasses }, (_, label) => label)
    : [...new Set(pairs.flatMap(({ target, prediction }) => [target, prediction]))].slice(0, MAX_CLASSES)
      .sort((a, b) => a - b);
  const counts = new Map(pairs.map(({ target, prediction, count }) => [`${target}/${prediction}`, count]));
  const largest = Math.max(...pairs.map((pair) => pair.count));
  const subset = classes.length < numClasses ? ` Shown are the ${classes.length} classes that are mixed up most.` : "";
  return [
    h(
      "p",
      { class: "muted" },
      "Rows are the given labels, columns the predictions. A number opens a queue of those examples, the most " +
        `suspicious first.${subset}`,
    ),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Given against predicted" },
      h(
        "table",
        { class: "matrix" },
        h("caption", { class: "hidden-text" }, "Examples by given and predicted class"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, h("span", { class: "hidden-text" }, "Given")),
            classes.map((label) => h("th", { scope: "col" }, className(run, label))),
          ),
        ),
        h(
          "tbody",
          {},
          classes.map((target) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, className(run, target)),
              classes.map((prediction) => h("td", {}, cell(target, prediction))),
            )
          ),
        ),
      ),
    ),
  ];

  /**
   * @param {number} target
   * @param {number} prediction
   */
  function cell(target, prediction) {
    const count = matrix?.[target]?.[prediction] ?? counts.get(`${target}/${prediction}`) ?? 0;
    if (target === prediction) return h("span", { class: "muted" }, matrix ? number(count) : "");
    if (!count) return h("span", { class: "none", "aria-hidden": "true" }, "·");
    const [given, predicted] = [className(run, target), className(run, prediction)];
    const button = h("button", {
      type: "button",
      class: "cell",
      "aria-label": `${count} given ${given}, predicted ${predicted}: review them`,
      onclick: () => openPair(run, { target, prediction, count }, { strategy: "logit_margin", epoch }, notice, refused),
    }, number(count));
    button.style.setProperty("--share", `${Math.round(15 + 70 * Math.sqrt(count / largest))}%`);
    return button;
  }
}
