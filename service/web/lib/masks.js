// Masks as pictures: their regions, the plane that is drawn, and its pixels.

import { isWrong } from "./units.js";

/** @import { Elements } from "../types.d.ts" */
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
 * The pixels of a plane, four bytes each.
 *
 * @param {Plane} plane
 * @param {(place: number) => Colour} colourOf Returns the colour of an element.
 */
export function pixelsOf({ height, width, index }, colourOf) {
  const pixels = new Uint8ClampedArray(4 * height * width);
  for (let place = 0; place < height * width; place += 1) {
    pixels.set(colourOf(index * height * width + place), 4 * place);
  }
  return pixels;
}
