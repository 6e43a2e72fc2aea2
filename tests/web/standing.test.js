import assert from "node:assert/strict";

import { addReview, adjudicationOf, reviewOf, sidesOf, standingOf } from "../../service/web/lib/standing.js";

/** @import { ReviewedRow, RowReview, Verdict } from "../../service/web/types.d.ts" */

/**
 * Reviews from texts such as "kim: wrong 2" and "lee!: ok", an adjudication.
 *
 * @param {...string} texts
 * @returns {RowReview[]}
 */
const reviewsOf = (...texts) =>
  texts.map((text) => {
    const [, reviewer, mark, verdict, label] = /^(\w*)(!?): (\w+) ?(\d*)$/.exec(text) || [];
    const said = { verdict: /** @type {RowReview["verdict"]} */ (verdict), label: label ? Number(label) : null };
    return { review: text, reviewer: reviewer || null, ...said, comment: null, at: "", adjudicated: mark === "!" };
  });

Deno.test("the verdict is the adjudication, or else the common one, or else a conflict", () => {
  /** @type {[string[], string | null, number | null][]} */
  const cases = [
    [[], null, null],
    [["kim: ok"], "ok", null],
    [["kim: ok", "lee: ok"], "ok", null],
    [["kim: ok", "lee: unsure"], "conflict", null],
    [["kim: wrong", "lee: wrong 2"], "wrong", 2],
    [["kim: wrong 1", "lee: wrong 2"], "conflict", null],
    [["kim: exclude", ": exclude"], "exclude", null],
    [["kim: ok", "lee: wrong 2", "max!: wrong 2"], "wrong", 2],
    [["kim: ok", "lee: ok", "max!: exclude"], "exclude", null],
  ];
  for (const [texts, verdict, label] of cases) {
    assert.deepEqual(standingOf(reviewsOf(...texts)), { verdict, label }, texts.join());
  }
});

Deno.test("a review takes the place of the reviewer's last one", () => {
  const row = /** @type {ReviewedRow} */ ({ id: "a", reviews: reviewsOf("kim: ok", ": ok") });
  /** @type {(text: string, withdraw?: boolean) => (Verdict | "conflict" | number)[]} */
  const add = (text, withdraw = false) => {
    const [review] = reviewsOf(text);
    addReview(row, withdraw ? { ...review, verdict: null } : review);
    return [row.verdict, row.reviews.length];
  };
  assert.deepEqual(add("kim: wrong 1"), ["conflict", 2]);
  assert.equal(reviewOf(row, null)?.verdict, "ok");
  assert.equal(row.review, "kim: wrong 1");
  assert.deepEqual(add("kim!: ok"), ["ok", 3]);
  assert.equal(reviewOf(row, "kim")?.verdict, "wrong");
  assert.deepEqual(add("lee!: exclude"), ["exclude", 3]);
  assert.equal(adjudicationOf(row)?.reviewer, "lee");
  assert.deepEqual(add("kim!: ok", true), ["conflict", 2]);
  assert.deepEqual(add(": ok", true), ["wrong", 1]);
  assert.equal(row.verdict_label, 1);
  assert.deepEqual(add("kim: ok", true), [null, 0]);
});

Deno.test("the sides of a conflict have their reviewers", () => {
  const row = { reviews: reviewsOf("kim: wrong 2", "lee: ok", "max: wrong 2", "ann!: ok") };
  assert.deepEqual(sidesOf(row), [
    { verdict: "wrong", label: 2, reviewers: ["kim", "max"] },
    { verdict: "ok", label: null, reviewers: ["lee"] },
  ]);
});
