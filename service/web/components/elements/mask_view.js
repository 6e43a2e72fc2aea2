// A mask: the picture with the wrong elements, and the given and the predicted mask next to each other.

import { classColour, colour, colourOfText } from "../../lib/colours.js";
import { h, number } from "../../lib/dom.js";
import { partAround, planeOf, regionNumbers } from "../../lib/masks.js";
import { boxText, unitText } from "../../lib/units.js";
import { pictureOf } from "../example_content.js";
import { className } from "../labels.js";
import { maskPicture } from "./mask_picture.js";

/** @import { Attributes, Classes, Elements, UnitRow } from "../../types.d.ts" */
/** @import { Colour } from "../../lib/colours.js" */
/** @typedef {keyof typeof COLOURS} Kind */

/** The colours of given and suggested classes in the style sheet. */
const COLOURS = { given: "bad", suggested: "accent" };
/** @type {Colour} */
const CLEAR = [0, 0, 0, 0];
/** Opacity of wrong elements on the picture, from 0 to 255: those under review, and the others. */
const STRONG = 120, WEAK = 60;

/**
 * @param {Classes} run
 * @param {UnitRow} row
 * @param {Elements} elements
 */
export function maskView(run, row, elements) {
  const { shape, targets, predictions } = elements;
  const region = typeof row.unit === "number" ? row.unit : null;
  const numbers = regionNumbers(elements);
  const plane = planeOf(shape, numbers, region);
  const box = row.box ? { place: row.box, label: unitText(row.unit) } : null;
  const part = partAround(plane, row.box ?? null);
  const enlarged = part.width < plane.width;
  const picture = pictureOfRow(row);
  const text = regionText(run, row);
  /** @type {(title: string, kind: Kind, labels: (number | null)[], label: number | null) => HTMLElement} */
  const panel = (title, kind, labels, label) =>
    h(
      "figure",
      { class: "mask" },
      maskPicture(plane, classColours(labels, numbers, region, kind), { name: `${title} mask. ${text}`, box, part }),
      h("figcaption", {}, title, " ", region !== null && h("span", { class: `label ${kind}` }, className(run, label))),
    );
  return h(
    "div",
    { class: "masks" },
    (picture || enlarged || region === null) &&
      h("div", { class: "whole" }, maskPicture(plane, wrongColours(numbers, region), { name: text, box, picture })),
    panel("Given", "given", targets, row.target),
    panel("Predicted", "suggested", predictions, row.suggested),
    enlarged && h("p", { class: "hint" }, "The masks are enlarged."),
    plane.count > 1 &&
      h("p", { class: "hint" }, `Shown is slice ${number(plane.index)} of ${number(plane.count)}, from 0.`),
  );
}

/**
 * The colours of wrong elements on a picture.
 *
 * @param {Int32Array} numbers The numbers of the regions.
 * @param {number | null} region
 * @returns {(place: number) => Colour}
 */
function wrongColours(numbers, region) {
  const text = colour(COLOURS.suggested);
  const [strong, weak] = [colourOfText(text, STRONG), colourOfText(text, WEAK)];
  return (place) => numbers[place] < 0 ? CLEAR : region === null || numbers[place] === region ? strong : weak;
}

/**
 * The colours of the classes of a mask, with the region in a colour of its own.
 *
 * @param {(number | null)[]} labels
 * @param {Int32Array} numbers The numbers of the regions.
 * @param {number | null} region
 * @param {Kind} kind
 * @returns {(place: number) => Colour}
 */
function classColours(labels, numbers, region, kind) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const marked = colourOfText(colour(COLOURS[kind]));
  return (place) => {
    const label = labels[place];
    if (label === null) return CLEAR;
    return region !== null && numbers[place] === region ? marked : classColour(label, dark);
  };
}

/** @param {{ id: string, attributes: Attributes }} row */
function pictureOfRow({ id, attributes }) {
  for (const [name, value] of Object.entries(attributes)) {
    const src = pictureOf(name, value);
    if (src) return { src, alt: `Example ${id}` };
  }
  return null;
}

/**
 * The region in words.
 *
 * @param {Classes} run
 * @param {UnitRow} row
 */
export function regionText(run, { unit, target, suggested, num_elements: count, box }) {
  if (unit === null || unit === undefined) return "All wrong elements are marked.";
  return `Marked is ${unitText(unit)}: ${number(count)} ${count === 1 ? "element" : "elements"}${
    box ? `, ${boxText(box)}` : ""
  }; given ${className(run, target)}, predicted ${className(run, suggested)}.`;
}
