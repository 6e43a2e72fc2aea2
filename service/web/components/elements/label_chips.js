// The labels of a multi-label example as chips: given, predicted, and the one under review.

import { h, number } from "../../lib/dom.js";
import { className } from "../labels.js";

/** @import { Classes, Elements, Unit } from "../../types.d.ts" */
/** @typedef {{ kind: string, note: string }} State The style of a chip, and its note in words. */

/** Above this number, labels that are neither given nor predicted are folded. */
const MAX_UNFOLDED = 12;

/**
 * @param {Classes} run
 * @param {{ unit?: Unit }} row
 * @param {Elements} elements
 */
export function labelChips(run, { unit = null }, { targets, predictions }) {
  const states = targets.map((target, label) => stateOf(target, predictions[label]));
  const chip = (/** @type {number} */ label) => {
    const { kind, note } = states[label];
    return h(
      "li",
      { class: `chip ${kind}`, "aria-current": label === unit && "true" },
      className(run, label),
      note && h("small", {}, note),
    );
  };
  const labels = [...states.keys()];
  const isFolded = (/** @type {number} */ label) =>
    labels.length > MAX_UNFOLDED && !states[label].note && label !== unit;
  const folded = labels.filter(isFolded);
  return h(
    "div",
    {},
    h("ul", { class: "chips", "aria-label": "Labels" }, labels.filter((label) => !isFolded(label)).map(chip)),
    folded.length > 0 && h(
      "details",
      {},
      h("summary", {}, `${number(folded.length)} labels that are neither given nor predicted`),
      h("ul", { class: "chips" }, folded.map(chip)),
    ),
  );
}

/**
 * @param {number | null} target Null: ignored.
 * @param {number} prediction
 * @returns {State}
 */
function stateOf(target, prediction) {
  if (target === null) return { kind: "ignored", note: prediction ? "ignored, predicted" : "ignored" };
  if (target && prediction) return { kind: "both", note: "given, predicted" };
  if (target) return { kind: "given", note: "given" };
  return prediction ? { kind: "suggested", note: "predicted" } : { kind: "", note: "" };
}
