// The scores of an example, with their percentiles in the epoch and their meaning in words.

import { bar, h, head, number, percent } from "../lib/dom.js";
import { isStructured } from "../lib/units.js";

/** @import { ExampleDetail, Run, Score } from "../types.d.ts" */
/**
 * A row of the table of scores.
 *
 * @typedef {object} ScoreRow
 * @property {Score} key
 * @property {string} title
 * @property {(example: ExampleDetail) => string} meaning The value in words.
 * @property {(run: Run) => string} ofElements Its relation to the elements of a structured example.
 * @property {boolean} largeIsBad True if a large value speaks against the label.
 */

const OF_WORST = () => "The one of its worst element.";
/** @type {Record<string, string>} */
const LOSS_WITHIN = {
  mean: "The mean of its elements.",
  sum: "The sum over its elements.",
  max: "The one of its worst element.",
};
/** Scores that are null if they are infinite; the other ones are null if they are unknown. */
const MAYBE_INFINITE = ["log_odds", "logit_margin"];

/** @type {ScoreRow[]} */
const SCORES = [
  {
    key: "loss",
    title: "Focal loss",
    meaning: ({ loss, cross_entropy }) => `What it adds to the loss: ${times(loss, cross_entropy)} its cross-entropy.`,
    ofElements: ({ within }) => LOSS_WITHIN[String(within)] ?? "The mean of its largest element losses.",
    largeIsBad: true,
  },
  {
    key: "cross_entropy",
    title: "Cross-entropy",
    meaning: () => "The loss before focusing: minus the logarithm of p(label).",
    ofElements: () => "The mean of its elements.",
    largeIsBad: true,
  },
  {
    key: "p_t",
    title: "p(label)",
    meaning: ({ p_t }) => `The model gives the label ${percent(p_t)}.`,
    ofElements: OF_WORST,
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
    ofElements: OF_WORST,
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
    ofElements: OF_WORST,
    largeIsBad: false,
  },
  {
    key: "normalized_margin",
    title: "Normalised margin",
    meaning: ({ normalized_margin: margin }) => {
      const place = Number(margin) < 0.5 ? "behind" : "ahead";
      return `The label against the best other class: ${place}, on a scale where 0.5 is a draw.`;
    },
    ofElements: OF_WORST,
    largeIsBad: false,
  },
  {
    key: "entropy",
    title: "Entropy",
    meaning: ({ entropy, probabilities }) =>
      `The model is ${certainty(Number(entropy), probabilities)}, whatever the label.`,
    ofElements: () => "The mean of its elements.",
    largeIsBad: true,
  },
  {
    key: "el2n",
    title: "EL2N",
    meaning: ({ el2n }) => {
      const distance = Number(el2n) > 1 ? "far from" : Number(el2n) > 0.5 ? "off" : "close to";
      return `Its probabilities lie ${distance} the label, on a scale from 0 to 1.41.`;
    },
    ofElements: () => "The norm over all its elements.",
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

/**
 * The known scores.
 *
 * @param {Run} run
 * @param {ExampleDetail} example
 */
export function scoreTable(run, example) {
  const structured = isStructured(run);
  const shown = SCORES.filter(({ key }) =>
    key in example && (example[key] !== null || (!structured && MAYBE_INFINITE.includes(key)))
  );
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, `Scores in epoch ${example.epoch}`),
    head("Score", ["Value"], "Among all of the epoch", "In words"),
    h(
      "tbody",
      {},
      shown.map(({ key, title, meaning, ofElements, largeIsBad }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, title),
          h("td", { class: "num", "data-label": "Value" }, number(example[key])),
          h("td", { "data-label": "Among all" }, percentileBar(example.percentiles[key], largeIsBad)),
          h("td", { class: "muted" }, structured ? ofElements(run) : meaning(example)),
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
