import assert from "node:assert/strict";

import { json } from "../../service/web/lib/json.js";
import { fake, installDocument } from "./fake_document.js";

installDocument();

Deno.test("values are shown under their names", () => {
  const expected = [
    [7, "key: 7"],
    [null, "key: null"],
    [true, "key: true"],
    ["text", 'key: "text"'],
    [{}, "key: {}"],
    [[], "key: []"],
  ];
  for (const [value, text] of expected) assert.equal(fake(json(value, "key")).textContent, text);
});

Deno.test("objects and lists are folded elements with their number of members", () => {
  const element = fake(json({ list: [1, 2, 3], name: "x" }, "row"));
  assert.deepEqual(element.all("summary").map((summary) => summary.textContent), ["row: { 2 }", "list: [ 3 ]"]);
  assert.equal(element.textContent, 'row: { 2 }list: [ 3 ]0: 11: 22: 3name: "x"');
});

Deno.test("text stays text and is never markup", () => {
  const element = fake(json({ text: "<b>bold</b>" }, "row"));
  assert.deepEqual(element.all("b"), []);
  assert.ok(element.textContent.includes('"<b>bold</b>"'));
});

Deno.test("long text is cut", () => {
  const text = fake(json("x".repeat(1305), "picture")).textContent;
  assert.ok(text.endsWith(" and 1,005 more characters"));
  assert.equal(text.split("x").length - 1, 300);
});

Deno.test("a value stays folded or unfolded when it is shown again", () => {
  const opened = new Map();
  const value = { inner: { a: 1 } };
  const element = fake(json(value, "row", { opened }));
  const [inner] = element.all("details");
  assert.ok(element.open && inner.open);
  inner.open = false;
  inner.dispatchEvent(new Event("toggle"));
  const again = fake(json(value, "row", { opened }));
  assert.ok(again.open);
  assert.equal(again.all("details")[0].open, false);
  assert.equal(fake(json(value, "other", { open: false, opened })).open, false);
});
