// The tokens of an example as a text. Wrong spans have their given and predicted classes above them.

import { h, number } from "../../lib/dom.js";
import { tokenRuns, tokensOf } from "../../lib/tokens.js";
import { isWrong, unitText } from "../../lib/units.js";
import { className } from "../labels.js";

/** @import { Classes, Elements, UnitRow } from "../../types.d.ts" */
/** Tokens of a longer text are shown up to half of this number before and after the span. */
const MAX_TOKENS = 1000;

/**
 * @param {Classes} run
 * @param {UnitRow} row
 * @param {Elements | null} elements
 */
export function tokenText(run, row, elements) {
  const span = Array.isArray(row.unit) ? row.unit : null;
  const tokens = tokensOf(row.attributes, elements?.targets.length);
  if (!tokens) return untokenized(run, row, elements);
  const [from, to] = shownRange(tokens.length, span);
  const inSpan = (/** @type {number} */ place) => span !== null && place >= span[0] && place < span[1];
  const pairAt = (/** @type {number} */ place) => {
    if (elements && isWrong(elements, place)) {
      return pairText(run, elements.targets[place], elements.predictions[place]);
    }
    return !elements && inSpan(place) ? pairText(run, row.target, row.suggested) : "";
  };
  const runs = tokenRuns(from, to, (place) => `${inSpan(place)} ${pairAt(place)}`);
  return h(
    "div",
    {},
    h(
      "p",
      { class: "text tokens", dir: "auto" },
      from > 0 && "… ",
      runs.map(([start, stop]) => {
        const [words, pair] = [tokens.slice(start, stop), pairAt(start)];
        return [pair ? annotated(words, pair, inSpan(start)) : words.join(" "), " "];
      }),
      to < tokens.length && "…",
    ),
    to - from < tokens.length &&
      h("p", { class: "muted" }, `Tokens ${number(from)} to ${number(to - 1)} of ${number(tokens.length)}.`),
  );
}

/**
 * Words with their given and predicted class above the first one, so that a line can break between them.
 *
 * @param {string[]} words
 * @param {string} pair
 * @param {boolean} underReview
 */
function annotated([first, ...others], pair, underReview) {
  const words = [h("ruby", {}, first, h("rt", {}, pair)), others.map((word) => ` ${word}`)];
  return underReview ? h("mark", {}, words) : h("span", { class: "wrong-tokens" }, words);
}

/**
 * The first and the last place that are shown, the last excluded.
 *
 * @param {number} count
 * @param {number[] | null} span
 */
function shownRange(count, span) {
  const middle = span ? span[0] : 0;
  const from = Math.max(0, Math.min(middle - MAX_TOKENS / 2, count - MAX_TOKENS));
  return [from, Math.min(count, Math.max(from + MAX_TOKENS, span ? span[1] : 0))];
}

/**
 * @param {Classes} run
 * @param {number | null} target
 * @param {number | null} prediction
 */
const pairText = (run, target, prediction) => `${className(run, target)} → ${className(run, prediction)}`;

/**
 * The text of an example whose words are not its tokens, and the place of the span.
 *
 * @param {Classes} run
 * @param {UnitRow} row
 * @param {Elements | null} elements
 */
function untokenized(run, { unit, target, suggested, attributes }, elements) {
  const count = elements ? ` of ${number(elements.targets.length)}` : "";
  const pair = `given ${className(run, target)}, suggested ${className(run, suggested)}`;
  const { text } = attributes;
  return h(
    "div",
    {},
    typeof text === "string" && h("p", { class: "text", dir: "auto" }, text),
    h(
      "p",
      { class: "muted" },
      Array.isArray(unit) ? `The span is ${unitText(unit)}${count}: ${pair}. ` : "",
      "Send the attribute tokens, a list of texts, to see the words of the span.",
    ),
  );
}
