// Masks as pictures: their regions, the plane that is drawn, and its pixels.

import { isWrong } from "./units.js";

/** @import { Box, Elements } from "../types.d.ts" */
/** @import { Colour } from "./colours.js" */
/**
 * Two axes of a mask, of which the others are fixed.
 *
 * @typedef {object} Plane
 * @property {number} height
 * @property {number} width
 * @property {number} index The place among all planes of the mask.
 * @property {number} count The number of planes.
 */

/**
 * A rectangle of a plane.
 *
 * @typedef {{ top: number, left: number, height: number, width: number }} Part
 */

/** The smallest share of each axis that is enlarged, and the largest one; above it the whole plane is shown. */
const MIN_SHARE = 0.15, MAX_SHARE = 0.6;

/**
 * The number of the region of each element; -1 outside of regions. As in the service, a region is made of wrong elements
 * that are neighbours along one axis, and regions are numbered in the order of their first elements.
 *
 * @param {Pick<Elements, "shape" | "targets" | "predictions">} elements
 */
export function regionNumbers(elements) {
  const { shape } = elements;
  const size = elements.targets.length;
  const numbers = new Int32Array(size).fill(-1);
  const steps = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, length) => product * length, 1));
  let number = 0;
  for (let first = 0; first < size; first += 1) {
    if (numbers[first] >= 0 || !isWrong(elements, first)) continue;
    const open = [first];
    numbers[first] = number;
    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      for (let axis = 0; axis < shape.length; axis += 1) {
        const index = Math.floor(place / steps[axis]) % shape[axis];
        for (const step of [-1, 1]) {
          const neighbour = place + step * steps[axis];
          if (index + step < 0 || index + step >= shape[axis]) continue;
          if (numbers[neighbour] >= 0 || !isWrong(elements, neighbour)) continue;
          numbers[neighbour] = number;
          open.push(neighbour);
        }
      }
    }
    number += 1;
  }
  return numbers;
}

/**
 * The plane of the last two axes with the most elements of a region, or else with the most wrong elements.
 *
 * @param {number[]} shape
 * @param {Int32Array} numbers The numbers of the regions.
 * @param {number | null} region
 * @returns {Plane}
 */
export function planeOf(shape, numbers, region) {
  const [height, width] = shape.length > 1 ? shape.slice(-2) : [1, shape[0]];
  const size = height * width;
  const count = size ? numbers.length / size : 0;
  let best = { index: 0, shown: -1 };
  for (let index = 0; index < count; index += 1) {
    let shown = 0;
    for (const number of numbers.subarray(index * size, (index + 1) * size)) {
      if (region === null ? number >= 0 : number === region) shown += 1;
    }
    if (shown > best.shown) best = { index, shown };
  }
  return { height, width, index: best.index, count };
}

/**
 * The part of a plane around a box: three times the box, at least a part of the plane, and the shape of the plane. The
 * whole plane if the box is large or null.
 *
 * @param {Plane} plane
 * @param {Box | null} box
 * @returns {Part}
 */
export function partAround({ height, width }, box) {
  const [top, bottom] = [box?.[0].at(-2) ?? 0, box?.[1].at(-2) ?? 1];
  const [left, right] = [box?.[0].at(-1) ?? 0, box?.[1].at(-1) ?? width];
  const share = Math.max(MIN_SHARE, (3 * (bottom - top)) / height, (3 * (right - left)) / width);
  if (!box || share > MAX_SHARE) return { top: 0, left: 0, height, width };
  const part = { height: Math.ceil(share * height), width: Math.ceil(share * width) };
  /** @type {(from: number, to: number, length: number, whole: number) => number} */
  const start = (from, to, length, whole) =>
    Math.max(0, Math.min(Math.round((from + to - length) / 2), whole - length));
  return { ...part, top: start(top, bottom, part.height, height), left: start(left, right, part.width, width) };
}

/**
 * The pixels of a part of a plane, four bytes each.
 *
 * @param {Plane} plane
 * @param {Part} part
 * @param {(place: number) => Colour} colourOf Returns the colour of an element.
 */
export function pixelsOf(plane, { top, left, height, width }, colourOf) {
  const pixels = new Uint8ClampedArray(4 * height * width);
  const first = (plane.index * plane.height + top) * plane.width + left;
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      pixels.set(colourOf(first + row * plane.width + column), 4 * (row * width + column));
    }
  }
  return pixels;
}
