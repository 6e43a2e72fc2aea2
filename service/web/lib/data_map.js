// The data map of Swayamdipta et al. 2020: its regions and its points.

/** @import { Dynamics, Range, Region } from "../types.d.ts" */
/** @typedef {{ confidence: Range, variability: Range }} Box A part of the map. */
/**
 * An example, or a square of several examples.
 *
 * @typedef {object} Point
 * @property {string} id Empty for a square.
 * @property {number} confidence
 * @property {number} variability
 * @property {number | null} correctness From 0 to 1; null if the predictions are unknown.
 * @property {number} count Number of examples.
 */

/** Bounds of the regions. `tests/web` checks that `service/diagnostics/dynamics.py` has the same. */
export const AMBIGUOUS_VARIABILITY = 0.2, EASY_CONFIDENCE = 0.75, HARD_CONFIDENCE = 0.25;

/** @type {Record<Exclude<Region, "between">, { title: string, meaning: string, box: Box }>} */
export const REGIONS = {
  hard_to_learn: {
    title: "Hard to learn",
    meaning: "Never sure, and never in doubt about it: many of these labels are wrong.",
    box: { confidence: [null, HARD_CONFIDENCE], variability: [null, AMBIGUOUS_VARIABILITY] },
  },
  ambiguous: {
    title: "Ambiguous",
    meaning: "The model changes its mind: worth a second look, and useful for training.",
    box: { confidence: [null, null], variability: [AMBIGUOUS_VARIABILITY, null] },
  },
  easy: {
    title: "Easy",
    meaning: "Right and sure from early on.",
    box: { confidence: [EASY_CONFIDENCE, null], variability: [null, AMBIGUOUS_VARIABILITY] },
  },
};

export const REGION_NAMES = /** @type {(keyof typeof REGIONS)[]} */ (Object.keys(REGIONS));

/**
 * The squares of a binned map, otherwise a point for each example.
 *
 * @param {Dynamics} page
 * @returns {Point[]}
 */
export function mapPoints({ map, rows }) {
  if (map) return map.map((cell) => ({ ...cell, id: "" }));
  return rows.map(({ id, confidence, variability, correctness, epochs }) => ({
    id,
    confidence,
    variability,
    correctness: correctness === null ? null : correctness / epochs,
    count: 1,
  }));
}

/**
 * The number of examples in a part of the map, and the share of their epochs in which the model was right.
 *
 * @param {Point[]} points
 * @param {Box} box
 */
export function countInside(points, box) {
  let count = 0;
  let correct = 0;
  let known = true;
  for (const point of points) {
    if (!isInside(point.confidence, box.confidence) || !isInside(point.variability, box.variability)) continue;
    count += point.count;
    if (point.correctness === null) known = false;
    else correct += point.count * point.correctness;
  }
  return { count, correctness: count && known ? correct / count : null };
}

/**
 * @param {number} value
 * @param {Range} range Null: no bound.
 */
const isInside = (value, [least, largest]) =>
  (least === null || value >= least) && (largest === null || value <= largest);
