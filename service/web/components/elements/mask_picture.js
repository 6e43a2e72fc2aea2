// A plane of a mask as a canvas, over a picture if there is one, with the box of a region.

import { h } from "../../lib/dom.js";
import { partAround, pixelsOf } from "../../lib/masks.js";

/** @import { Box } from "../../types.d.ts" */
/** @import { Colour } from "../../lib/colours.js" */
/** @import { Part, Plane } from "../../lib/masks.js" */

/** Largest height in rem; a mask is as wide as its container unless it would be higher. */
const MAX_HEIGHT_REM = 11;
/** Largest ratio of the sides; the pixels of longer masks are stretched. */
const MAX_RATIO = 8;
/** Share of the height that a label above or below a box takes. */
const LABEL_SHARE = 0.15;

/**
 * @param {Plane} plane
 * @param {(place: number) => Colour} colourOf Returns the colour of an element.
 * @param {object} options
 * @param {string} options.name The content in words, for screen readers.
 * @param {{ place: Box, label: string } | null} options.box
 * @param {Part} [options.part] The part of the plane that is shown.
 * @param {{ src: string, alt: string } | null} [options.picture]
 */
export function maskPicture(plane, colourOf, { name, box, part = partAround(plane, null), picture = null }) {
  const { height, width } = part;
  const canvas = h("canvas", { width, height, role: "img", "aria-label": name });
  const pixels = new ImageData(pixelsOf(plane, part, colourOf), width, height);
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  const stack = h(
    "div",
    { class: "mask-picture" },
    picture && h("img", picture),
    canvas,
    box && boxOutline(part, box),
  );
  // The security policy forbids style attributes, but not styles that a script sets.
  const ratio = Math.min(MAX_RATIO, Math.max(1 / MAX_RATIO, width / height));
  stack.style.aspectRatio = String(ratio);
  stack.style.maxWidth = `${MAX_HEIGHT_REM * ratio}rem`;
  return stack;
}

/**
 * The outline of a box, with its label.
 *
 * @param {Part} part
 * @param {{ place: Box, label: string }} box
 */
function boxOutline({ height, width, ...part }, { place: [starts, stops], label }) {
  const [left, right] = [starts, stops].map((places) => (places.at(-1) ?? 0) - part.left);
  const [top, bottom] = [starts.at(-2) ?? 0, stops.at(-2) ?? 1].map((place) => place - part.top);
  const room = LABEL_SHARE * height;
  const place = top >= room ? "label-above" : bottom <= height - room ? "label-below" : "label-inside";
  const outline = h(
    "span",
    { class: `box ${place} ${left > width / 2 ? "label-left" : ""}` },
    h("span", { class: "box-label" }, label),
  );
  const share = (/** @type {number} */ part, /** @type {number} */ whole) => `${(100 * part) / whole}%`;
  Object.assign(outline.style, {
    left: share(left, width),
    top: share(top, height),
    width: share(right - left, width),
    height: share(bottom - top, height),
  });
  return outline;
}
