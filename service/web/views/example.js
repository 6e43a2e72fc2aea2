// One example: its content, verdicts, probabilities, scores and their course over the epochs.

import { exampleContent } from "../components/example_content.js";
import { className, verdictText } from "../components/labels.js";
import { card, crumbs } from "../components/layout.js";
import { chart } from "../lib/charts.js";
import { colour } from "../lib/colours.js";
import { bar, h, head, number, percent, when } from "../lib/dom.js";
import { toQueue, toRun } from "../lib/route.js";
import { getExample, getRun } from "../lib/runs_api.js";

/** @import { ExampleDetail, Review, Run, Score, ScoredExample, View } from "../types.d.ts" */
/**
 * A row of the table of scores.
 *
 * @typedef {object} ScoreRow
 * @property {Score} key
 * @property {string} title
 * @property {(example: ExampleDetail) => string} meaning The value in words.
 * @property {boolean} largeIsBad True if a large value speaks against the label.
 */

const MAX_CLASSES = 15;

/** @type {ScoreRow[]} */
const SCORES = [
  {
    key: "loss",
    title: "Focal loss",
    meaning: ({ loss, cross_entropy }) => `What it adds to the loss: ${times(loss, cross_entropy)} its cross-entropy.`,
    largeIsBad: true,
  },
  {
    key: "cross_entropy",
    title: "Cross-entropy",
    meaning: () => "The loss before focusing: minus the logarithm of p(label).",
    largeIsBad: true,
  },
  {
    key: "p_t",
    title: "p(label)",
    meaning: ({ p_t }) => `The model gives the label ${percent(p_t)}.`,
    largeIsBad: false,
  },
  {
    key: "log_odds",
    title: "Log odds",
    // Infinite log odds are null; p(label) is then 0 or 1.
    meaning: ({ log_odds, p_t }) =>
      (log_odds ?? p_t - 0.5) < 0
        ? "All other classes together win against the label."
        : "The label wins against all other classes together.",
    largeIsBad: false,
  },
  {
    key: "logit_margin",
    title: "Logit margin",
    // The margin is null if all other classes are masked.
    meaning: ({ logit_margin }) =>
      (logit_margin ?? 0) < 0
        ? "The best other class is ahead of the label."
        : "The label is ahead of every other class.",
    largeIsBad: false,
  },
  {
    key: "normalized_margin",
    title: "Normalised margin",
    meaning: ({ normalized_margin: margin }) =>
      `The label against the best other class: ${margin < 0.5 ? "behind" : "ahead"}, on a scale where 0.5 is a draw.`,
    largeIsBad: false,
  },
  {
    key: "entropy",
    title: "Entropy",
    meaning: ({ entropy, probabilities }) => `The model is ${certainty(entropy, probabilities)}, whatever the label.`,
    largeIsBad: true,
  },
  {
    key: "el2n",
    title: "EL2N",
    meaning: ({ el2n }) => {
      const distance = el2n > 1 ? "far from" : el2n > 0.5 ? "off" : "close to";
      return `Its probabilities lie ${distance} the label, on a scale from 0 to 1.41.`;
    },
    largeIsBad: true,
  },
];

/**
 * @param {number} loss
 * @param {number} crossEntropy
 */
function times(loss, crossEntropy) {
  return crossEntropy > 0 ? `${number(loss / crossEntropy, 3)} times` : "nothing of";
}

/**
 * @param {number} entropy
 * @param {number[] | null} probabilities
 */
function certainty(entropy, probabilities) {
  const share = probabilities ? entropy / Math.log(probabilities.length) : entropy;
  return share > 0.66 ? "undecided" : share > 0.33 ? "in some doubt" : "decided";
}

/** @param {View} view */
export async function exampleView({ parts, query, signal }) {
  const [, name, , id] = parts;
  const [run, example] = await Promise.all([getRun(name, signal), getExample(name, id, {}, signal)]);
  const queue = query.get("queue");
  /** @type {[string, string][]} */
  const toItsQueue = queue ? [[queue, toQueue(name, queue, query.get("row"))]] : [];
  const { target, prediction } = example;
  return h(
    "section",
    {},
    crumbs(["Runs", "#/"], [name, toRun(name)], ...toItsQueue, [id]),
    h("h1", { class: "wrap" }, id),
    h(
      "p",
      { class: "lead" },
      "Given ",
      h("span", { class: "label given" }, className(run, target)),
      prediction === target
        ? "; the model agrees."
        : ["; the model says ", h("span", { class: "label suggested" }, className(run, prediction)), "."],
    ),
    h(
      "div",
      { class: "columns even" },
      h(
        "div",
        {},
        card("Example", exampleContent(example, { all: true })),
        card("Verdicts", verdicts(run, example.reviews)),
      ),
      h(
        "div",
        {},
        card("What the model believes", probabilityList(run, example)),
        card("Over the epochs", course(run, example.course, signal)),
      ),
    ),
    card("Scores", scoreTable(example)),
  );
}

/**
 * The classes by probability, the largest first.
 *
 * @param {Run} run
 * @param {ExampleDetail} example
 */
function probabilityList(run, { probabilities, target, prediction }) {
  if (!probabilities) {
    return h("p", { class: "muted" }, "The run stores no logits, so the probabilities of the classes are unknown.");
  }
  const order = probabilities.map((share, label) => ({ share, label })).sort((a, b) => b.share - a.share);
  const shown = order.filter(({ label }, place) => place < MAX_CLASSES || label === target);
  return [
    h(
      "ul",
      { class: "classes" },
      shown.map(({ share, label }) => {
        const kind = label === target ? "given" : label === prediction ? "suggested" : "";
        return h(
          "li",
          { class: kind },
          h(
            "span",
            { class: "class-name" },
            className(run, label),
            kind && h("small", { class: `mark ${kind}` }, kind),
          ),
          bar(share, kind),
          h("span", { class: "num" }, percent(share)),
        );
      }),
    ),
    order.length > shown.length &&
    h("p", { class: "muted" }, `and ${order.length - shown.length} classes with less`),
  ];
}

/** @param {ExampleDetail} example */
function scoreTable(example) {
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, `Scores in epoch ${example.epoch}`),
    head("Score", ["Value"], "Among all of the epoch", "In words"),
    h(
      "tbody",
      {},
      SCORES.filter(({ key }) => key in example).map(({ key, title, meaning, largeIsBad }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, title),
          h("td", { class: "num", "data-label": "Value" }, number(example[key])),
          h("td", { "data-label": "Among all" }, percentileBar(example.percentiles[key], largeIsBad)),
          h("td", { class: "muted" }, meaning(example)),
        )
      ),
    ),
  );
}

/**
 * @param {number | null | undefined} percentile
 * @param {boolean} largeIsBad
 */
function percentileBar(percentile, largeIsBad) {
  if (percentile === null || percentile === undefined) return "–";
  const isBad = largeIsBad ? percentile > 95 : percentile < 5;
  const text = `higher than ${percentile.toFixed(1)} %`;
  return h("span", { class: "progress" }, bar(percentile / 100, isBad ? "bad" : ""), text);
}

/**
 * The history of verdicts, the latest first.
 *
 * @param {Run} run
 * @param {Review[]} reviews
 */
function verdicts(run, reviews) {
  if (!reviews.length) return h("p", { class: "muted" }, "There is no verdict yet.");
  return h(
    "ol",
    { class: "history" },
    reviews.toReversed().map(({ verdict, label, at, reviewer, queue, comment }) =>
      h(
        "li",
        {},
        h("strong", {}, verdict === null ? "Taken back" : verdictText(run, verdict, label)),
        " ",
        h("span", { class: "muted" }, when(at), reviewer && ` by ${reviewer}`, queue && ` in ${queue}`),
        comment && h("p", {}, comment),
      )
    ),
  );
}

/**
 * Charts and a table of the scores by epoch.
 *
 * @param {Run} run
 * @param {ScoredExample[]} rows
 * @param {AbortSignal} signal
 */
function course(run, rows, signal) {
  const table = h(
    "details",
    {},
    h("summary", {}, "As a table"),
    h(
      "table",
      {},
      head("Epoch", "Prediction", ["p(label)"], ["Margin"], ["Loss"]),
      h(
        "tbody",
        {},
        rows.map(({ epoch, prediction, p_t, logit_margin, loss }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(epoch)),
            h("td", {}, className(run, prediction)),
            [p_t, logit_margin, loss].map((value) => h("td", { class: "num" }, number(value, 3))),
          )
        ),
      ),
    ),
  );
  if (rows.length < 2) return [h("p", { class: "muted" }, "The run has only one epoch of this example."), table];
  return [
    epochChart(rows, "p_t", "p(label)", [0, 1.05], (value) => percent(value, 0), signal),
    epochChart(
      rows,
      "logit_margin",
      "Logit margin: below the line the model prefers another class",
      null,
      (value) => number(value, 2),
      signal,
    ),
    table,
  ];
}

/**
 * A score over the epochs, as a line.
 *
 * @param {ScoredExample[]} rows
 * @param {"p_t" | "logit_margin"} key
 * @param {string} title
 * @param {[number, number] | null} range Of the axis; null: the range of the values and zero.
 * @param {(value: number | null) => string} text
 * @param {AbortSignal} signal
 */
function epochChart(rows, key, title, range, text, signal) {
  const description = `${title}: ${rows.map((row) => `epoch ${row.epoch} ${text(row[key])}`).join(", ")}`;
  const draw = () => ({
    data: [{
      x: rows.map((row) => row.epoch),
      y: rows.map((row) => row[key]),
      mode: "lines+markers",
      line: { color: colour("accent"), width: 2 },
      marker: { color: colour("accent"), size: 5 },
      hovertemplate: rows.map((row) => `epoch ${row.epoch}: ${text(row[key])}<extra></extra>`),
    }],
    layout: {
      xaxis: { title: { text: "epoch" }, showgrid: false, tickformat: "d", nticks: Math.min(rows.length + 1, 9) },
      yaxis: {
        rangemode: "tozero",
        zeroline: true,
        zerolinecolor: colour("muted"),
        ...(range && { range, tickformat: ".0%" }),
      },
    },
  });
  return chart(title, description, draw, { height: 190, signal });
}
