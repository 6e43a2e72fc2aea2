import assert from "node:assert/strict";

import { noCounts, Reviews } from "../../service/web/lib/reviews.js";

/** @import { Person, ReviewedRow, RowReview, Verdict } from "../../service/web/types.d.ts" */

/** @import { FailedStep } from "../../service/web/lib/reviews.js" */

/** @type {Person} */
const KIM = { name: "kim", fromKey: false, role: "owner", canReview: true, isOwner: true };

/**
 * A row that Kim has reviewed, unless the verdict is null.
 *
 * @param {string} id
 * @param {Verdict} verdict
 * @returns {ReviewedRow}
 */
function makeRow(id, verdict = null) {
  const own = verdict && makeReview("kim", verdict);
  const reviews = own ? { review: own.review, reviews: [own] } : { review: null, reviews: [] };
  const given = { target: 0, suggested: 1, loss: 1, reason: "", attributes: {} };
  return { id, rank: 1, ...given, verdict, verdict_label: null, ...reviews, done: own !== null, suggestion: "shown" };
}

/**
 * @param {string | null} reviewer
 * @param {RowReview["verdict"]} verdict
 * @param {number | null} label
 * @returns {RowReview}
 */
function makeReview(reviewer, verdict, label = null) {
  return { review: `by ${reviewer}`, reviewer, verdict, label, comment: null, at: "", adjudicated: false };
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
    const reviews = body.map((/** @type {any} */ _, /** @type {number} */ place) => `${requests.length}.${place}`);
    return Promise.resolve(Response.json({ num_reviewed: requests.length, reviews, detail: "full" }, { status }));
  };
  return requests;
}

function makeReviews({ person = KIM, overlap = 1, checks = false } = {}) {
  /** @type {(string | undefined)[]} */
  const failures = [];
  const changed = (/** @type {ReviewedRow[]} */ _, /** @type {FailedStep | null | undefined} */ failed) =>
    failures.push(failed?.error.message);
  return { reviews: new Reviews("mail", "monday", { person, overlap, checks, changed }), failures };
}

/** The bodies of the requests that a service without reviews of its own gets. */
function recordBodies() {
  /** @type {any[][]} */
  const bodies = [];
  globalThis.fetch = (_, options) => {
    const body = JSON.parse(String(options?.body));
    bodies.push(body);
    const reviews = body.map((/** @type {any} */ _, /** @type {number} */ place) => `${bodies.length}.${place}`);
    return Promise.resolve(Response.json({ num_reviewed: 1, reviews }));
  };
  return bodies;
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
  assert.deepEqual(reviews.counts, { ...noCounts(), wrong: 1 });
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
  assert.deepEqual(reviews.counts, { ...noCounts(), ok: -1, unsure: 1 });
});

Deno.test("a verdict names its unit, and a row of one class has none", async () => {
  const bodies = recordBodies();
  const { reviews } = makeReviews();
  for (const unit of [[2, 4], 0, null]) reviews.set([{ row: { ...makeRow("a"), unit }, verdict: "ok", label: null }]);
  reviews.set([{ row: makeRow("b"), verdict: "ok", label: null }]);
  await reviews.pending;
  assert.deepEqual(bodies.map(([{ unit }]) => unit), [[2, 4], 0, null, undefined]);
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
  assert.deepEqual(reviews.counts, noCounts());
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

Deno.test("a verdict says who gives it, unless the key does", async () => {
  const bodies = recordBodies();
  for (const person of [KIM, { ...KIM, name: null }, { ...KIM, fromKey: true }]) {
    const { reviews } = makeReviews({ person });
    const row = makeRow("a");
    reviews.set([{ row, verdict: "exclude", label: null, comment: "blurred" }]);
    await reviews.pending;
    assert.deepEqual([row.verdict, reviews.own(row)?.comment], ["exclude", "blurred"]);
  }
  assert.deepEqual(bodies.map(([{ reviewer }]) => reviewer), ["kim", undefined, undefined]);
  assert.deepEqual(bodies.map(([{ comment, expected }]) => [comment, expected]), Array(3).fill(["blurred", undefined]));
});

Deno.test("each verdict expects the review before it, also one in flight", async () => {
  const bodies = recordBodies();
  const { reviews } = makeReviews({ checks: true });
  const [row, other] = [makeRow("a"), { ...makeRow("b"), review: "x", reviews: [makeReview("lee", "ok")] }];
  reviews.set([{ row, verdict: "ok", label: null }, { row: other, verdict: "ok", label: null }]);
  reviews.set([{ row, verdict: "unsure", label: null }]);
  reviews.undo(null);
  await reviews.pending;
  assert.deepEqual(bodies.flat().map(({ expected }) => expected), [null, "x", "1.0", "2.0"]);
  reviews.set([{ row, verdict: "ok", label: null }], { checks: false });
  await reviews.pending;
  assert.equal("expected" in bodies[4 - 1][0], false);
});

Deno.test("undo withdraws the person's verdict, and leaves those of others", async () => {
  const bodies = recordBodies();
  const { reviews } = makeReviews();
  /** @type {ReviewedRow} */
  const row = { ...makeRow("a"), verdict: "ok", review: "by lee", reviews: [makeReview("lee", "ok")] };
  assert.equal(reviews.undo(row), null);
  reviews.set([{ row, verdict: "wrong", label: 1 }]);
  await reviews.pending;
  assert.deepEqual([row.verdict, reviews.counts], ["conflict", { ...noCounts(), ok: -1, conflict: 1 }]);
  reviews.undo(row);
  await reviews.pending;
  assert.deepEqual([row.verdict, reviews.counts], ["ok", noCounts()]);
  assert.equal(bodies[1][0].verdict, null);
});

Deno.test("an adjudication settles a conflict, and undo opens it again", async () => {
  const bodies = recordBodies();
  const { reviews } = makeReviews();
  const sides = [makeReview("lee", "ok"), makeReview("kim", "wrong", 2)];
  /** @type {ReviewedRow} */
  const row = { ...makeRow("a"), verdict: "conflict", review: "x", reviews: sides };
  reviews.set([{ row, verdict: "ok", label: null, adjudicate: true }]);
  await reviews.pending;
  assert.deepEqual([row.verdict, reviews.own(row)?.verdict], ["ok", "wrong"]);
  reviews.undo(row);
  await reviews.pending;
  assert.equal(row.verdict, "conflict");
  assert.deepEqual(bodies.flat().map(({ verdict, adjudicate }) => [verdict, adjudicate]), [["ok", true], [null, true]]);
});

Deno.test("a row of a queue for two reviewers is open until two have judged it, or it is settled", async () => {
  recordBodies();
  const { reviews } = makeReviews({ overlap: 2 });
  /** @type {ReviewedRow} */
  const row = { ...makeRow("a"), verdict: "ok", reviews: [makeReview("lee", "ok")] };
  assert.equal(reviews.isOpen(row), true);
  reviews.set([{ row, verdict: "ok", label: null }]);
  assert.equal(reviews.isOpen(row), false);
  await reviews.pending;
  assert.deepEqual([row.done, reviews.isOpen(row)], [true, false]);
  const settled = { ...makeRow("b"), done: true };
  assert.equal(reviews.isOpen(settled), false);
  assert.equal(makeReviews().reviews.isOpen(makeRow("c")), true);
  assert.equal(makeReviews().reviews.isOpen({ ...makeRow("d"), verdict: "conflict" }), false);
});
