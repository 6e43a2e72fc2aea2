import assert from "node:assert/strict";

import { QueueQuery } from "../../service/web/lib/queue_query.js";
import { QueueRows } from "../../service/web/lib/queue_rows.js";
import { noCounts } from "../../service/web/lib/reviews.js";

/** @import { QueuePage, ReviewedRow, Task } from "../../service/web/types.d.ts" */

/** @param {number} rank */
const makeRow = (rank) => /** @type {ReviewedRow} */ ({ id: `row ${rank}`, rank, verdict: null, verdict_label: null });

/** @param {object} members @returns {QueuePage} */
function makePage(members) {
  const counts = { num_rows: 500, num_matching: 500, num_reviewed: 3, num_ok: 1, num_wrong: 2, num_conflict: 0 };
  return /** @type {any} */ ({ ...counts, offset: 0, rows: [], ...members });
}

/**
 * Rows of a queue, and the queries of their requests.
 *
 * @param {string} address
 * @param {{ page?: QueuePage, selected?: ReviewedRow[] }} options
 */
function makeRows(address, { page = makePage({}), selected = [] } = {}) {
  /** @type {string[]} */
  const queries = [];
  const reviews = /** @type {any} */ ({
    pending: Promise.resolve(),
    isOpen: (/** @type {ReviewedRow} */ row) => row.verdict === null && !row.saving,
    counts: { ok: 1, wrong: 2, unsure: 4, exclude: 1, conflict: 2 },
  });
  const loadPage = (/** @type {string} */ query) => {
    queries.push(query);
    return Promise.resolve(structuredClone(page));
  };
  const query = new QueueQuery(new URLSearchParams(address));
  const rows = new QueueRows(page, query, { loadPage, reviews, selected: () => selected });
  return { rows, queries, reviews };
}

Deno.test("a page is loaded from an offset or around a rank", async () => {
  const page = makePage({ offset: 100, rows: [makeRow(101), makeRow(102)] });
  const { rows, queries } = makeRows("sort=-loss", { page });
  assert.ok(await rows.load({ offset: 100 }));
  assert.ok(await rows.load({ around: 102 }));
  assert.deepEqual(queries, ["sort=-loss&limit=100&offset=100", "sort=-loss&limit=100&around=102"]);
  assert.deepEqual(rows.rows.map((row) => row.rank), [101, 102]);
  assert.deepEqual([rows.offset, rows.matching, rows.filtered], [100, 500, 500]);
});

Deno.test("another tab counts the rows that match the filters", async () => {
  const { rows, queries } = makeRows("given=1&tab=all");
  await rows.load({});
  assert.deepEqual(queries, ["limit=100&offset=0", "target=1&limit=1&fields=rank"]);
});

Deno.test("selected rows are loaded by rank", async () => {
  const selected = Array.from({ length: 250 }, (_, place) => makeRow(2 * place + 1));
  const { rows, queries } = makeRows("tab=selected", { selected });
  await rows.load({ around: 2 * 120 + 1 });
  const ranks = new URLSearchParams(queries[0]).get("ranks")?.split(",").map(Number);
  assert.deepEqual(ranks, selected.slice(100, 200).map((row) => row.rank));
  assert.deepEqual([rows.offset, rows.matching], [100, 250]);
  const nothing = makeRows("tab=selected");
  await nothing.rows.load({});
  assert.deepEqual(nothing.queries, ["ranks=0&limit=100"]);
});

Deno.test("a row stays the same object, and keeps its verdict while it is being saved", async () => {
  const { rows } = makeRows("", { page: makePage({ rows: [makeRow(1), makeRow(2)] }) });
  await rows.load({});
  const [first, second] = rows.rows;
  Object.assign(first, { saving: 1, verdict: "ok" });
  Object.assign(second, { verdict: "ok" });
  const reloaded = await rows.loadMatching(10);
  assert.equal(reloaded.rows[0], first);
  assert.equal(reloaded.rows[1], second);
  assert.deepEqual([first.verdict, second.verdict], ["ok", null]);
});

Deno.test("the units of an example are different rows", async () => {
  const units = [0, 1, null].map((unit, place) => ({ ...makeRow(place + 1), id: "a", unit }));
  const { rows } = makeRows("", { page: makePage({ rows: units }) });
  await rows.load({});
  rows.rows[1].verdict = "ok";
  assert.deepEqual(rows.rows.map((row) => [row.unit, row.verdict]), [[0, null], [1, "ok"], [null, null]]);
});

Deno.test("units are among the fields of matching rows in structured runs only", async () => {
  for (const [task, expected] of /** @type {[Task, boolean][]} */ ([["classification", false], ["tokens", true]])) {
    const { rows, queries } = makeRows("");
    rows.query.run = { class_names: null, task };
    await rows.loadMatching(5);
    assert.equal(new URLSearchParams(queries[0]).get("fields")?.split(",").includes("unit"), expected);
  }
});

Deno.test("only the last of several loads counts", async () => {
  const { rows } = makeRows("", { page: makePage({ rows: [makeRow(7)] }) });
  const loads = await Promise.all([rows.load({ offset: 0 }), rows.load({ offset: 100 })]);
  assert.deepEqual(loads, [false, true]);
});

Deno.test("rows that no longer match are not visible, and reviewed rows are not open", async () => {
  const { rows } = makeRows("show=open", { page: makePage({ rows: [makeRow(1), makeRow(2), makeRow(3)] }) });
  await rows.load({});
  Object.assign(rows.rows[0], { verdict: "wrong" });
  Object.assign(rows.rows[1], { saving: 1 });
  assert.deepEqual(rows.visible().map((row) => row.rank), [2, 3]);
  assert.equal(rows.firstOpen()?.rank, 3);
});

Deno.test("verdicts since the last load are added to the counts of the queue", async () => {
  const { rows, reviews } = makeRows("");
  assert.deepEqual(rows.counts(), { wrong: 4, judged: 6, reviewed: 13, conflicts: 2 });
  await rows.load({});
  assert.deepEqual(reviews.counts, noCounts());
  assert.deepEqual(rows.counts(), { wrong: 2, judged: 3, reviewed: 3, conflicts: 0 });
});

Deno.test("rows of the page are loaded again in place", async () => {
  const { rows } = makeRows("", { page: makePage({ rows: [makeRow(1), makeRow(2)] }) });
  await rows.load({});
  const [first, second] = rows.rows;
  /** @type {string[]} */
  const queries = [];
  rows.loadPage = (query) => {
    queries.push(query);
    return Promise.resolve(makePage({ rows: [{ ...makeRow(2), suggested: 3 }] }));
  };
  await rows.reload([second, makeRow(7)]);
  await rows.reload([]);
  assert.deepEqual(queries, ["ranks=2&limit=100"]);
  assert.equal(second.suggested, 3);
  assert.deepEqual(rows.rows, [first, second]);
});
