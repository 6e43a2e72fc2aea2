// The classes of the elements of a structured run, or its labels: their losses, and what is taken for what.

import { bar, h, head, number, percent } from "../../lib/dom.js";
import { className } from "../labels.js";
import { openPair } from "../queue/open_queue.js";

/** @import { Diagnostics, ElementClass, ElementConfusion, Refused, Run } from "../../types.d.ts" */

/**
 * The classes by their share of the loss.
 *
 * @param {Run} run
 * @param {Diagnostics["elements"]} elements
 */
export function elementClasses(run, { classes }) {
  const rows = classes.toSorted((a, b) => (b.loss_share ?? 0) - (a.loss_share ?? 0));
  const largest = rows[0]?.loss_share || 1;
  const hasIssues = rows.some((row) => row.label_issues !== undefined);
  const isLabels = run.task === "multi_label";
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, "Classes, the largest share of the loss first"),
    head(
      isLabels ? "Label" : "Class",
      ["Elements"],
      isLabels && ["Given"],
      ["The model differs"],
      ["Units"],
      ["Mean loss"],
      "Share of the loss",
      hasIssues && ["Wrong labels"],
    ),
    h("tbody", {}, rows.map((row) => classRow(run, row, { largest, hasIssues }))),
  );
}

/**
 * @param {Run} run
 * @param {ElementClass} row
 * @param {{ largest: number, hasIssues: boolean }} table `largest`: the end of the bars' scale.
 */
function classRow(run, row, { largest, hasIssues }) {
  const cell = (/** @type {string} */ label, /** @type {string} */ text) =>
    h("td", { class: "num", "data-label": label }, text);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, className(run, row.class)),
    cell("Elements", number(row.count)),
    run.task === "multi_label" && cell("Given", number(row.num_positive)),
    cell("The model differs", percent(row.error_rate)),
    cell("Units", number(row.num_units)),
    cell("Mean loss", number(row.mean_loss, 3)),
    h(
      "td",
      { "data-label": "Share of the loss" },
      h(
        "span",
        { class: "progress" },
        bar((row.loss_share ?? 0) / largest, "bad"),
        h("span", { class: "share" }, percent(row.loss_share, 0)),
      ),
    ),
    hasIssues && cell("Wrong labels", number(row.label_issues)),
  );
}

/**
 * The pairs of given and predicted class by the sum of their losses. In runs of tokens or masks a number opens a queue of
 * their units.
 *
 * @param {Run} run
 * @param {Diagnostics} diagnostics
 * @param {HTMLElement} notice Gets the error if a queue cannot be made.
 * @param {Refused} refused
 */
export function elementConfusions(run, { elements: { confusions }, epoch }, notice, refused) {
  if (!confusions.length) return h("p", { class: "muted" }, "The model agrees with every label.");
  const review = (/** @type {ElementConfusion} */ { target, prediction, num_units: count }) =>
    h("button", {
      type: "button",
      onclick: () => openPair(run, { target, prediction, count }, { strategy: "top_loss", epoch }, notice, refused),
    }, `Review ${number(count)}`);
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, "Given and predicted classes, the largest loss first"),
    head("Given → predicted", ["Elements"], ["Loss"], "Units"),
    h(
      "tbody",
      {},
      confusions.map((pair) =>
        h(
          "tr",
          {},
          h(
            "th",
            { scope: "row" },
            `${className(run, pair.target, pair.label)} → ${className(run, pair.prediction, pair.label)}`,
          ),
          h("td", { class: "num", "data-label": "Elements" }, number(pair.count)),
          h("td", { class: "num", "data-label": "Loss" }, number(pair.loss_sum, 3)),
          h("td", { "data-label": "Units" }, pair.label === undefined ? review(pair) : number(pair.num_units)),
        )
      ),
    ),
  );
}
