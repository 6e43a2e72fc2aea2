import assert from "node:assert/strict";

import { countInside, mapPoints, REGIONS } from "../../service/web/lib/data_map.js";

/** @param {object} page */
const points = (page) => mapPoints(/** @type {any} */ (page));

const examples = points({
  rows: [
    { id: "a", confidence: 0.9, variability: 0.1, correctness: 3, epochs: 3 },
    { id: "b", confidence: 0.1, variability: 0.1, correctness: 0, epochs: 3 },
    { id: "c", confidence: 0.5, variability: 0.4, correctness: 2, epochs: 4 },
  ],
});

Deno.test("the correctness of an example is a share of its epochs", () => {
  assert.deepEqual(examples.map(({ id, correctness, count }) => [id, correctness, count]), [
    ["a", 1, 1],
    ["b", 0, 1],
    ["c", 0.5, 1],
  ]);
});

Deno.test("a region has the examples inside its bounds, ends included", () => {
  assert.deepEqual(countInside(examples, REGIONS.easy.box), { count: 1, correctness: 1 });
  assert.deepEqual(countInside(examples, REGIONS.hard_to_learn.box), { count: 1, correctness: 0 });
  assert.deepEqual(countInside(examples, REGIONS.ambiguous.box), { count: 1, correctness: 0.5 });
  assert.deepEqual(countInside(examples, { confidence: [0.1, 0.9], variability: [null, null] }).count, 3);
  assert.deepEqual(countInside(examples, { confidence: [0.95, null], variability: [null, null] }), {
    count: 0,
    correctness: null,
  });
});

Deno.test("a square of a binned map counts all its examples", () => {
  const cells = points({
    rows: [],
    map: [
      { confidence: 0.9, variability: 0.1, correctness: 1, count: 30 },
      { confidence: 0.8, variability: 0.1, correctness: 0.5, count: 10 },
    ],
  });
  assert.ok(cells.every(({ id }) => id === ""));
  assert.deepEqual(countInside(cells, REGIONS.easy.box), { count: 40, correctness: 0.875 });
});
