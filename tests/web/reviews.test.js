import assert from "node:assert/strict";

import { Reviews } from "../../service/web/lib/reviews.js";

/** @import { ReviewedRow, Verdict } from "../../service/web/types.d.ts" */

/**
 * @param {string} id
 * @param {Verdict} verdict
 * @returns {ReviewedRow}
 */
function makeRow(id, verdict = null) {
  return { id, rank: 1, target: 0, suggested: 1, loss: 1, reason: "", attributes: {}, verdict, verdict_label: null };
}

/** A service that records the verdicts of each request, and refuses the requests of these numbers, from 1. */
function fakeService(/** @type {number[]} */ ...refused) {
  /** @type {[string, Verdict, number | null][][]} */
  const requests = [];
  globalThis.fetch = (url, options) => {
    assert.equal(url, "runs/mail/reviews");
    assert.equal(options?.method, "POST");
    const body = JSON.parse(String(options?.body));
    assert.ok(body.every((/** @type {{ queue: string }} */ review) => review.queue === "monday"));
    requests.push(body.map((/** @type {any} */ { id, verdict, label }) => [id, verdict, label]));
    const status = refused.includes(requests.length) ? 503 : 200;
    return Promise.resolve(Response.json({ num_reviewed: requests.length, detail: "full" }, { status }));
  };
  return requests;
}

function makeReviews() {
  /** @type {(string | undefined)[]} */
  const failures = [];
  const reviews = new Reviews("mail", "monday", (_, error) => failures.push(error?.message));
  return { reviews, failures };
}

Deno.test("a verdict counts when the service has stored it", async () => {
  const requests = fakeService();
  const { reviews } = makeReviews();
  const row = makeRow("a");
  reviews.set([{ row, verdict: "wrong", label: 3 }]);
  assert.equal(row.verdict, null);
  assert.equal(row.saving, 1);
  assert.equal(reviews.unsaved, 1);
  await reviews.pending;
  assert.deepEqual([row.verdict, row.verdict_label, row.saving, reviews.unsaved], ["wrong", 3, 0, 0]);
  assert.deepEqual(reviews.counts, { ok: 0, wrong: 1, unsure: 0 });
  assert.equal(reviews.progress?.num_reviewed, 1);
  assert.deepEqual(requests, [[["a", "wrong", 3]]]);
});

Deno.test("steps are sent one after the other, and only a wrong verdict has a label", async () => {
  const requests = fakeService();
  const { reviews } = makeReviews();
  const [first, second] = [makeRow("a"), makeRow("b", "ok")];
  reviews.set([{ row: first, verdict: "ok", label: 2 }, { row: second, verdict: null, label: null }]);
  reviews.set([{ row: first, verdict: "unsure", label: null }]);
  await reviews.pending;
  assert.deepEqual(requests, [[["a", "ok", null], ["b", null, null]], [["a", "unsure", null]]]);
  assert.deepEqual(reviews.counts, { ok: -1, wrong: 0, unsure: 1 });
});

Deno.test("a verdict names its unit, and a row of one class has none", async () => {
  /** @type {unknown[]} */
  const units = [];
  globalThis.fetch = (_, options) => {
    for (const review of JSON.parse(String(options?.body))) units.push(review.unit);
    return Promise.resolve(Response.json({ num_reviewed: 1 }));
  };
  const { reviews } = makeReviews();
  for (const unit of [[2, 4], 0, null]) reviews.set([{ row: { ...makeRow("a"), unit }, verdict: "ok", label: null }]);
  reviews.set([{ row: makeRow("b"), verdict: "ok", label: null }]);
  await reviews.pending;
  assert.deepEqual(units, [[2, 4], 0, null, undefined]);
});

Deno.test("undo returns to the verdict before, also while it is being saved", async () => {
  const requests = fakeService();
  const { reviews } = makeReviews();
  const row = makeRow("a");
  reviews.set([{ row, verdict: "wrong", label: 1 }]);
  reviews.set([{ row, verdict: "ok", label: null }]);
  assert.deepEqual(reviews.undo(null), [row]);
  await reviews.pending;
  assert.deepEqual([row.verdict, row.verdict_label], ["wrong", 1]);
  assert.deepEqual(reviews.undo(null), [row]);
  await reviews.pending;
  assert.equal(row.verdict, null);
  assert.deepEqual(requests.at(-1), [["a", null, null]]);
  assert.equal(reviews.undo(row), null);
});

Deno.test("without a step, undo takes back the verdict of the current row", async () => {
  const requests = fakeService();
  const { reviews } = makeReviews();
  assert.equal(reviews.undo(null), null);
  assert.equal(reviews.undo(makeRow("a")), null);
  const row = makeRow("b", "unsure");
  assert.deepEqual(reviews.undo(row), [row]);
  await reviews.pending;
  assert.deepEqual(requests, [[["b", null, null]]]);
  assert.equal(row.verdict, null);
});

Deno.test("a step that the service refuses changes no row and cannot be undone", async () => {
  fakeService(1);
  const { reviews, failures } = makeReviews();
  const row = makeRow("a");
  reviews.set([{ row, verdict: "ok", label: null }]);
  await reviews.pending;
  assert.equal(row.verdict, null);
  assert.deepEqual(reviews.counts, { ok: 0, wrong: 0, unsure: 0 });
  assert.deepEqual(failures, [undefined, "full"]);
  assert.equal(reviews.undo(row), null);
});

Deno.test("an undo that the service refuses can be repeated", async () => {
  const requests = fakeService(2);
  const { reviews } = makeReviews();
  const row = makeRow("a");
  reviews.set([{ row, verdict: "ok", label: null }]);
  await reviews.pending;
  reviews.undo(row);
  await reviews.pending;
  assert.equal(row.verdict, "ok");
  assert.deepEqual(reviews.undo(row), [row]);
  await reviews.pending;
  assert.equal(row.verdict, null);
  assert.equal(requests.length, 3);
});
