import assert from "node:assert/strict";

import { path } from "../../service/web/lib/api.js";
import { address, parseAddress, toExample, toExamples, toQueue, toRun } from "../../service/web/lib/route.js";

Deno.test("the address of a view is parsed into its parts and its query", () => {
  const { parts, query } = parseAddress("#/runs/mail/queues/monday/17?given=2&sort=-loss");
  assert.deepEqual(parts, ["runs", "mail", "queues", "monday", "17"]);
  assert.deepEqual(Object.fromEntries(query), { given: "2", sort: "-loss" });
  assert.deepEqual(parseAddress("").parts, []);
  assert.deepEqual(parseAddress("#/").parts, []);
});

Deno.test("parts with any characters survive the address", () => {
  for (const id of ["inbox/0001", "a b", "50 %", "ä?#&=", "..", "%2F", "日本"]) {
    assert.deepEqual(parseAddress(toExample("mail", id)).parts, ["runs", "mail", "examples", id]);
  }
});

Deno.test("a part that is not percent-encoded correctly stays as it is", () => {
  assert.deepEqual(parseAddress("#/runs/50%").parts, ["runs", "50%"]);
});

Deno.test("an address leaves empty values out", () => {
  assert.equal(address(["runs"], { a: null, b: undefined, c: "", d: 0, e: false }), "#/runs?d=0&e=false");
  assert.equal(toRun("a/b"), "#/runs/a%2Fb");
  assert.equal(toExamples("mail", { epoch: 2, target: null }), "#/runs/mail/examples?epoch=2");
});

Deno.test("the address of a queue has the rank of a row, if there is one", () => {
  assert.equal(toQueue("mail", "monday"), "#/runs/mail/queues/monday");
  assert.equal(toQueue("mail", "monday", null, { tab: "all" }), "#/runs/mail/queues/monday?tab=all");
  assert.equal(toQueue("mail", "monday", 17), "#/runs/mail/queues/monday/17");
});

Deno.test("a path of the API encodes its parts, but not their slashes", () => {
  assert.equal(path("runs", "a b", "examples", "inbox/0001?"), "runs/a%20b/examples/inbox/0001%3F");
});
