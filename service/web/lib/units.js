// Units of structured runs: a label, a span of tokens or a region of a mask. A whole example has the unit null.

import { number } from "./dom.js";

/** @import { Box, Diagnostics, Elements, Task, Unit } from "../types.d.ts" */

/**
 * True if the examples of a run have many elements.
 *
 * @param {{ task?: Task }} run
 */
export const isStructured = (run) => (run.task ?? "classification") !== "classification";

/**
 * The key of a row: an example may have a row for each of its units.
 *
 * @param {{ id: string, unit?: Unit }} row
 */
export const unitKey = ({ id, unit = null }) => unit === null ? id : `${id}\n${JSON.stringify(unit)}`;

/**
 * A span or a region in words, such as "tokens 3 to 5". Empty for a whole example. A label is known by its name.
 *
 * @param {Unit | undefined} unit
 */
export function unitText(unit) {
  if (unit === null || unit === undefined) return "";
  if (typeof unit === "number") return `region ${unit}`;
  const [start, stop] = unit;
  return stop - start === 1 ? `token ${start}` : `tokens ${start} to ${stop - 1}`;
}

/**
 * The number of classes of a run and what they are of, such as "3 classes of tokens".
 *
 * @param {{ task?: Task, num_classes: number | null }} run
 */
export function classCount({ task = "classification", num_classes: count }) {
  const names = {
    classification: "classes",
    multi_label: "labels",
    tokens: "classes of tokens",
    masks: "classes of masks",
  };
  return `${number(count)} ${names[task]}`;
}

/**
 * The estimate of wrong labels: of examples, or of the elements of a structured run. Undefined without diagnostics.
 *
 * @param {Diagnostics | null} diagnostics
 */
export const estimatedErrors = (diagnostics) => diagnostics?.label_errors ?? diagnostics?.elements?.label_issues;

/**
 * How many elements of an example differ, in words. It is unknown of a mask that was sent as a histogram.
 *
 * @param {{ task?: Task }} run
 * @param {{ num_wrong?: number | null, num_valid?: number }} counts
 */
export const differenceText = (run, { num_wrong: wrong, num_valid: valid }) =>
  `${wrong === null ? "an unknown number" : number(wrong)} of ${number(valid)} ${elementsName(run)}`;

/**
 * The name of a run's elements.
 *
 * @param {{ task?: Task }} run
 */
export function elementsName({ task }) {
  if (task === "multi_label") return "labels";
  return task === "tokens" ? "tokens" : "elements";
}

/**
 * A box in words, such as "rows 3 to 5, columns 0 to 9".
 *
 * @param {Box} box
 */
export function boxText([starts, stops]) {
  const names = { 1: ["elements"], 2: ["rows", "columns"], 3: ["slices", "rows", "columns"] }[starts.length];
  return starts.map((start, axis) => `${names?.[axis] ?? `axis ${axis}`} ${start} to ${stops[axis] - 1}`).join(", ");
}

/**
 * True if the prediction of an element differs from its target. Ignored elements, whose target is null, never do.
 *
 * @param {Pick<Elements, "targets" | "predictions">} elements
 * @param {number} place
 */
export const isWrong = ({ targets, predictions }, place) =>
  targets[place] !== null && targets[place] !== predictions[place];
