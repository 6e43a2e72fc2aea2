// The filter of a run's examples: read from the address, written to the API and to requests for queues.

import { classText } from "./class_text.js";

/** @import { Classes, QueueFilter } from "../types.d.ts" */

/** Parameters of the address that the API understands, besides those of attributes. */
const PARAMETERS = ["target", "prediction", "correct", "min_loss", "max_loss", "sort", "epoch"];
export const ATTRIBUTE = "attribute.";

/**
 * The parameters of the address that the API understands.
 *
 * @param {URLSearchParams} query
 * @returns {Record<string, string>}
 */
export function exampleParameters(query) {
  return Object.fromEntries([...query].filter(([key]) => PARAMETERS.includes(key) || key.startsWith(ATTRIBUTE)));
}

/**
 * The parameters as the API takes them.
 *
 * @param {Pick<Classes, "class_names">} run
 * @param {Record<string, string>} parameters
 * @returns {Record<string, string>}
 */
export function apiParameters(run, parameters) {
  const classes = ["target", "prediction"].filter((name) => parameters[name])
    .map((name) => [name, classText(run, parameters[name])]);
  return { ...parameters, ...Object.fromEntries(classes) };
}

/**
 * The filters among the attributes, by the attributes' names.
 *
 * @param {Record<string, string>} parameters
 * @returns {[name: string, value: string][]}
 */
export function attributeFilters(parameters) {
  return Object.entries(parameters)
    .filter(([key]) => key.startsWith(ATTRIBUTE))
    .map(([key, value]) => [key.slice(ATTRIBUTE.length), value]);
}

/**
 * The filter as a queue takes it; null if there is none.
 *
 * @param {Record<string, string>} parameters
 * @returns {QueueFilter | null}
 */
export function queueFilter(parameters) {
  const { target, prediction, correct, min_loss: least, max_loss: largest } = parameters;
  /** @type {QueueFilter} */
  const filter = {};
  if (target !== undefined) filter.target = Number(target);
  if (prediction !== undefined) filter.prediction = Number(prediction);
  if (correct !== undefined) filter.correct = correct === "true";
  if (least !== undefined || largest !== undefined) filter.ranges = { loss: [toNumber(least), toNumber(largest)] };
  const attributes = attributeFilters(parameters);
  if (attributes.length) filter.attributes = Object.fromEntries(attributes);
  return Object.keys(filter).length ? filter : null;
}

/** @param {string | undefined} text */
const toNumber = (text) => (text === undefined ? null : Number(text));
