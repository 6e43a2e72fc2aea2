import assert from "node:assert/strict";

import { QueueQuery } from "../../service/web/lib/queue_query.js";

/** @param {string} text */
const parse = (text) => new QueueQuery(new URLSearchParams(text));

/** @param {QueueQuery} query */
const writeAddress = (query) =>
  new URLSearchParams(Object.entries(query.addressQuery).filter(([, value]) => value)).toString();

Deno.test("an empty address shows all rows by rank", () => {
  const query = parse("");
  assert.equal(query.tab, "all");
  assert.equal(query.hasFilters, false);
  assert.deepEqual(query.sort, []);
  assert.equal(query.apiQuery(), "");
});

Deno.test("an address is read and written again", () => {
  for (
    const text of [
      "given=2&show=open&sort=-loss%2Cid",
      "text=invoice&attribute.annotator=kim&tab=all",
      "sort=p_t&tab=selected",
      "prediction=3&suggested=12",
    ]
  ) {
    assert.equal(writeAddress(parse(text)), text);
  }
});

Deno.test("unknown values are ignored", () => {
  const query = parse("given=two&prediction=-1&suggested=1234567890&show=maybe&sort=color,-nothing&tab=none");
  assert.equal(query.hasFilters, false);
  assert.equal(writeAddress(query), "");
});

Deno.test("the API gets the filters under its own names, on the filtered tab only", () => {
  const query = parse("given=2&show=wrong&attribute.annotator=lee");
  assert.equal(query.tab, "filtered");
  assert.equal(query.apiQuery(), "target=2&verdict=wrong&attribute.annotator=lee");
  assert.equal(query.apiQuery({ limit: 5, around: null }), "target=2&verdict=wrong&attribute.annotator=lee&limit=5");
  query.tab = "all";
  assert.equal(query.apiQuery({ limit: 5 }), "limit=5");
  assert.equal(query.apiQuery({ filtered: true }), "target=2&verdict=wrong&attribute.annotator=lee");
});

Deno.test("a click on a column sorts by it, a second click reverses the order", () => {
  const query = parse("");
  query.sortBy("loss");
  assert.deepEqual(query.sort, ["-loss"]); // large losses first
  query.sortBy("loss");
  assert.deepEqual(query.sort, ["loss"]);
  query.sortBy("id");
  assert.deepEqual(query.sort, ["id"]);
});

Deno.test("with Shift, a click adds a sort key or reverses it", () => {
  const query = parse("sort=target");
  query.sortBy("loss", { further: true });
  assert.deepEqual(query.sort, ["target", "-loss"]);
  query.sortBy("target", { further: true });
  assert.deepEqual(query.sort, ["-target", "-loss"]);
  assert.deepEqual(query.sorted("target"), { place: 1, descending: true });
  assert.deepEqual(query.sorted("loss"), { place: 2, descending: true });
  assert.equal(query.sorted("rank"), null);
});

Deno.test("without sort keys the rows are sorted by rank", () => {
  const query = parse("");
  assert.deepEqual(query.sorted("rank"), { place: 1, descending: false });
  query.sortBy("rank");
  assert.deepEqual(query.sort, ["-rank"]);
  query.sortBy("rank");
  assert.deepEqual(query.sort, []);
});

Deno.test("a column is a sort key once", () => {
  const query = parse("sort=-loss,id,loss");
  assert.deepEqual(query.sort, ["-loss", "id"]);
  query.setSort(["", "p_t", "-p_t"]);
  assert.deepEqual(query.sort, ["p_t"]);
});

Deno.test("the filter of verdicts decides if a reviewed row still matches", () => {
  /** @type {[string, [boolean, boolean, boolean]][]} */
  const expected = [
    ["show=open", [true, false, false]],
    ["show=reviewed", [false, true, true]],
    ["show=wrong", [false, false, true]],
    ["given=1", [true, true, true]],
    ["show=open&tab=all", [true, true, true]],
  ];
  for (const [text, matches] of expected) {
    const query = parse(text);
    assert.deepEqual([null, "ok", "wrong"].map((verdict) => query.matches(/** @type {any} */ ({ verdict }))), matches);
  }
});

Deno.test("a class is sent by its name where the run has names", () => {
  const address = new URLSearchParams("given=1&suggested=2&show=open");
  const query = new QueueQuery(address, { class_names: ["1", "a, b", "0"] });
  assert.equal(query.apiQuery(), "target=a%2C+b&suggested=0&verdict=open");
});
