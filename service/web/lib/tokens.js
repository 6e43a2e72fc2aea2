// The tokens of an example as a text: its words, and the spans that are wrong.

/** @import { Attributes } from "../types.d.ts" */

/**
 * The tokens of an example: its attribute `tokens`, or else the words of its attribute `text` if they are as many as the
 * elements. Null if there are no such attributes.
 *
 * @param {Attributes} attributes
 * @param {number} [count] The number of elements; without it only the attribute `tokens` counts.
 * @returns {string[] | null}
 */
export function tokensOf({ tokens, text }, count) {
  if (Array.isArray(tokens) && (count === undefined || tokens.length === count)) return tokens.map(String);
  const words = typeof text === "string" ? text.split(/\s+/).filter(Boolean) : [];
  return words.length && words.length === count ? words : null;
}

/**
 * Runs of neighbouring tokens with the same key, from a place to another one, which is excluded.
 *
 * @param {number} from
 * @param {number} to
 * @param {(place: number) => string} keyOf
 * @returns {[start: number, stop: number][]}
 */
export function tokenRuns(from, to, keyOf) {
  /** @type {[number, number][]} */
  const runs = [];
  for (let place = from; place < to; place += 1) {
    const last = runs.at(-1);
    if (last && keyOf(last[0]) === keyOf(place)) last[1] = place + 1;
    else runs.push([place, place + 1]);
  }
  return runs;
}
