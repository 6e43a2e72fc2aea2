// The strategies that fill a queue: their names, descriptions and precision.

import { number } from "../../lib/dom.js";

/** @import { Precision, Queue, Task } from "../../types.d.ts" */

/**
 * Label and description of each strategy. `tests/web` checks that the service has the same strategies.
 *
 * @type {Record<string, [label: string, description: string]>}
 */
export const STRATEGIES = {
  recommended: [
    "Recommended",
    "Chooses by the epochs of the run and by the verdicts so far, and says why. Review a queue of 50, then make the next.",
  ],
  logit_margin: [
    "Logit margin",
    "Labels whose logit is farthest below the best other logit. Usually the best strategy for wrong labels.",
  ],
  area_under_margin: [
    "Area under the margin",
    "The logit margin averaged over the epochs. The best strategy if the model has memorised its labels.",
  ],
  suspected_errors: ["Suspected errors", "Labels that confident learning counts as wrong."],
  self_confidence: ["Self-confidence", "Labels with the lowest probability."],
  normalized_margin: ["Normalised margin", "Labels whose probability is farthest below the best other probability."],
  adjusted_margin: [
    "Adjusted margin",
    "The margin, less how often the model predicts each class. Best if the labels of some classes are wrong more often.",
  ],
  adjusted_self_confidence: [
    "Adjusted self-confidence",
    "Labels with the lowest probability, less how often the model predicts each class.",
  ],
  top_loss: ["Largest loss", "Examples with the largest focal loss."],
  top_share: ["Share of the loss", "The smallest number of examples that hold half of the loss."],
  semi_hard: ["Semi-hard", "Right by a small margin: for training, not for wrong labels."],
  ambiguous: ["Ambiguous", "Examples of which the model is unsure. It ignores the label, so it finds no wrong labels."],
  random: [
    "Random (control)",
    "A random sample: the only strategy that gives an unbiased error rate of the whole run.",
  ],
  label_quality: ["Label quality", "Examples whose worst labels have the lowest probability."],
  consensus_quality: [
    "Consensus quality",
    "Examples whose consensus of several annotators is least certain. Needs annotations.",
  ],
  active_lab: ["ActiveLab", "Examples where one more annotator's label tells most, as cleanlab has it."],
  active_lab_calibrated: [
    "ActiveLab, calibrated",
    "Examples where one more annotator's label tells most, by a model that is calibrated to the annotators.",
  ],
  mix: ["Mix", "Several strategies, each with its share."],
};
/** Names of units by task. */
const UNITS = { multi_label: "Labels", tokens: "Spans", masks: "Regions" };
/**
 * The strategies that rank the units of structured examples, the default first, and their descriptions after the units.
 *
 * @type {Record<string, string>}
 */
const UNIT_STRATEGIES = {
  recommended: "that are most likely wrong. Chooses by the run, and says why.",
  top_loss: "with the largest focal loss, summed over their elements.",
  self_confidence: "with the lowest probability.",
  suspected_errors: "that confident learning counts as wrong.",
};

/** The strategies that are only for examples with one class, and those that are only for the others. */
const OF_CLASSES = [
  "adjusted_margin",
  "adjusted_self_confidence",
  "consensus_quality",
  "active_lab",
  "active_lab_calibrated",
];
const OF_ELEMENTS = ["label_quality"];

/**
 * The strategies for a run, the default first: name, label and description.
 *
 * @param {{ task?: Task }} run
 */
export function strategiesOf({ task = "classification" }) {
  const all = Object.entries(STRATEGIES).map(([name, [label, description]]) => ({ name, label, description }));
  if (task === "classification") return all.filter(({ name }) => !OF_ELEMENTS.includes(name));
  const ofUnits = Object.entries(UNIT_STRATEGIES).map(([name, description]) => ({
    name,
    label: strategyName(name),
    description: `${UNITS[task]} ${description}`,
  }));
  const others = all.filter(({ name }) => !(name in UNIT_STRATEGIES || OF_CLASSES.includes(name))).map((strategy) =>
    strategy.name === "mix"
      ? strategy
      : { ...strategy, description: `${strategy.description} Rows are whole examples.` }
  );
  return [...ofUnits, ...others];
}

/**
 * True if all of these strategies rank units in structured runs.
 *
 * @param {string[]} strategies
 */
export const rankUnits = (strategies) => strategies.every((name) => name in UNIT_STRATEGIES);

/** @param {string} name */
export const strategyName = (name) => (STRATEGIES[name] || [name])[0];

/**
 * The strategy that ranks the rows of a queue: the one that `recommended` chose, which may be a mix.
 *
 * @param {Pick<Queue, "strategy" | "chosen">} queue
 */
export const rankedBy = ({ strategy, chosen }) => chosen?.strategy || strategy;

/**
 * The share of wrong labels among reviewed rows in words, and its 95 % interval.
 *
 * @param {Precision | null | undefined} precision
 * @returns {[share: string, details: string]}
 */
export function precisionText(precision) {
  if (!precision || precision.share === null) return ["–", "no verdicts yet"];
  const { share, low, high, wrong, judged } = precision;
  const interval = `${Math.round(100 * Number(low))}–${Math.round(100 * Number(high))} % (95 %)`;
  return [`${Math.round(100 * share)} %`, `${number(wrong)} of ${number(judged)} wrong; ${interval}`];
}
