import assert from "node:assert/strict";

import { classColour, colourOfText } from "../../service/web/lib/colours.js";
import { partAround, pixelsOf, planeOf, regionNumbers } from "../../service/web/lib/masks.js";

/** The elements of a mask with targets 0 and predictions of these digits; a dot is an ignored element. */
function makeElements(/** @type {number[]} */ shape, /** @type {string} */ digits) {
  const labels = [...digits.replaceAll(" ", "")];
  return {
    shape,
    targets: labels.map((digit) => digit === "." ? null : 0),
    predictions: labels.map((digit) => digit === "." ? 1 : Number(digit)),
  };
}

Deno.test("a region has neighbours of one axis, whatever their classes, and is numbered by its first element", () => {
  const elements = makeElements([4, 5], "00011 12001 00100 10011");
  const expected = [-1, -1, -1, 0, 0, 1, 1, -1, -1, 0, -1, -1, 2, -1, -1, 3, -1, -1, 4, 4];
  assert.deepEqual([...regionNumbers(elements)], expected);
});

Deno.test("ignored elements part regions, and the end of a row is no neighbour of the next one", () => {
  assert.deepEqual([...regionNumbers(makeElements([2, 3], "1.1 100"))], [0, -1, 1, 0, -1, -1]);
  assert.deepEqual([...regionNumbers(makeElements([2, 2], "0110"))], [-1, 0, 1, -1]);
  assert.deepEqual([...regionNumbers(makeElements([4], "1101"))], [0, 0, -1, 1]);
});

Deno.test("regions go through the slices of a volume, and the slice with most of a region is drawn", () => {
  const elements = makeElements([3, 2, 2], "1000 1110 0001");
  const numbers = regionNumbers(elements);
  assert.deepEqual([...numbers], [0, -1, -1, -1, 0, 0, 0, -1, -1, -1, -1, 1]);
  assert.deepEqual(planeOf(elements.shape, numbers, 0), { height: 2, width: 2, index: 1, count: 3 });
  assert.deepEqual(planeOf(elements.shape, numbers, 1).index, 2);
  assert.deepEqual(planeOf(elements.shape, numbers, null).index, 1);
});

Deno.test("a mask without errors and a mask of one axis have a plane", () => {
  assert.deepEqual(planeOf([2, 2], regionNumbers(makeElements([2, 2], "0000")), null).index, 0);
  assert.deepEqual(planeOf([4], new Int32Array(4), 0), { height: 1, width: 4, index: 0, count: 1 });
});

Deno.test("pixels are those of the plane", () => {
  const plane = { height: 1, width: 2, index: 1, count: 2 };
  const pixels = pixelsOf(plane, partAround(plane, null), (place) => [place, 0, 0, 255]);
  assert.deepEqual([...pixels], [2, 0, 0, 255, 3, 0, 0, 255]);
});

Deno.test("a small region is enlarged with its surroundings, inside of the plane", () => {
  const plane = { height: 100, width: 200, index: 1, count: 2 };
  const whole = { top: 0, left: 0, height: 100, width: 200 };
  assert.deepEqual(partAround(plane, null), whole);
  assert.deepEqual(partAround(plane, [[0, 0], [30, 10]]), whole);
  assert.deepEqual(partAround(plane, [[40, 100], [50, 104]]), { top: 30, left: 72, height: 30, width: 60 });
  assert.deepEqual(partAround(plane, [[1, 99, 199], [2, 100, 200]]), { top: 85, left: 170, height: 15, width: 30 });
  const pixels = pixelsOf(plane, { top: 99, left: 198, height: 1, width: 2 }, (place) => [place % 200, 1, 2, 3]);
  assert.deepEqual([...pixels], [198, 1, 2, 3, 199, 1, 2, 3]);
});

Deno.test("colours are bytes, and differ between neighbouring classes in both schemes", () => {
  assert.deepEqual(colourOfText("#2653c0", 7), [0x26, 0x53, 0xc0, 7]);
  for (const dark of [true, false]) {
    const colours = Array.from({ length: 30 }, (_, label) => classColour(label, dark));
    assert.ok(colours.flat().every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255));
    assert.equal(new Set(colours.map(String)).size, 30);
  }
});
