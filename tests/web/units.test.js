import assert from "node:assert/strict";

import { elementContent } from "../../service/web/components/elements/element_content.js";
import { className, labels, rowText, verdictText } from "../../service/web/components/labels.js";
import { Selection } from "../../service/web/components/queue/bulk_review.js";
import { ElementsCache } from "../../service/web/lib/elements_cache.js";
import { tokensOf } from "../../service/web/lib/tokens.js";
import { boxText, isStructured, unitKey, unitText } from "../../service/web/lib/units.js";
import { fake, installDocument } from "./fake_document.js";

/** @import { Classes, Elements, ReviewedRow, Task } from "../../service/web/types.d.ts" */

installDocument();

/** @param {Task} task @param {string[] | null} class_names @returns {Classes} */
const makeRun = (task, class_names = null) => ({ task, class_names, num_classes: 3 });

/** @param {object} members @returns {ReviewedRow} */
const makeRow = (members) => /** @type {any} */ ({
  id: "a",
  rank: 1,
  target: 0,
  suggested: 1,
  attributes: {},
  ...members,
});

/** @param {number[]} predictions @param {(number | null)[]} targets @returns {Elements & { log_odds: number[] }} */
const makeElements = (targets, predictions) => ({ shape: [targets.length], targets, predictions, log_odds: [] });

Deno.test("units of one example have different keys, and a whole example has its id", () => {
  const keys = [null, undefined, 0, 1, [0, 1], [0, 11]].map((unit) => unitKey(makeRow({ unit })));
  assert.deepEqual(keys, ["a", "a", "a\n0", "a\n1", "a\n[0,1]", "a\n[0,11]"]);
  const selection = new Selection(() => {});
  selection.set([makeRow({ unit: 1, rank: 2 }), makeRow({ unit: 0 })], true);
  assert.deepEqual(selection.rows.map((row) => row.unit), [0, 1]);
  selection.set([makeRow({ unit: 1 })], false);
  assert.ok(selection.has(makeRow({ unit: 0 })) && !selection.has(makeRow({ unit: 1 })));
});

Deno.test("units and boxes in words", () => {
  assert.deepEqual([null, undefined, 2, [3, 4], [3, 6]].map((unit) => unitText(/** @type {any} */ (unit))), [
    "",
    "",
    "region 2",
    "token 3",
    "tokens 3 to 5",
  ]);
  assert.equal(boxText([[0, 4], [3, 5]]), "rows 0 to 2, columns 4 to 4");
  assert.equal(boxText([[1, 0, 4], [2, 3, 5]]), "slices 1 to 1, rows 0 to 2, columns 4 to 4");
});

Deno.test("a run without a task is one of classes", () => {
  assert.deepEqual([{}, makeRun("classification"), makeRun("masks")].map(isStructured), [false, false, true]);
});

Deno.test("the classes of a label are the label and its absence", () => {
  const run = makeRun("multi_label", ["red", "blue", "green"]);
  assert.deepEqual([className(run, 0, 1), className(run, 1, 1), className(run, 1)], ["not blue", "blue", "blue"]);
  assert.equal(className(makeRun("multi_label"), 0, 2), "not label 2");
  assert.equal(className(makeRun("tokens", ["O", "PER"]), 1, [0, 2]), "PER");
  assert.equal(verdictText(run, "wrong", 0, 2), "Wrong: not green");
  assert.equal(fake(labels(run, makeRow({ unit: 0 }))).textContent, "given not red, suggested →red");
  assert.equal(fake(labels(run, makeRow({ unit: null, target: null }))).textContent, "whole example");
  assert.equal(rowText(run, makeRow({ unit: 0 })), "Row 1: a, given not red.");
  assert.equal(rowText(makeRun("masks"), makeRow({ unit: 4 })), "Row 1: a, region 4, given class 0.");
  assert.equal(rowText(makeRun("tokens"), makeRow({ unit: null, target: null })), "Row 1: a, whole example.");
});

Deno.test("the words of a text are its tokens if they are as many", () => {
  assert.deepEqual(tokensOf({ tokens: ["a", "b"], text: "c d" }, 2), ["a", "b"]);
  assert.deepEqual(tokensOf({ text: " c  d\n" }, 2), ["c", "d"]);
  assert.equal(tokensOf({ text: "c d" }, 3), null);
  assert.equal(tokensOf({ text: "c d" }), null);
  assert.equal(tokensOf({ tokens: ["a"] }, 2), null);
});

Deno.test("labels are chips that say if they are given and predicted, and the unit's label is the current one", () => {
  const run = makeRun("multi_label", ["red", "blue", "green", "grey", "pink"]);
  const elements = makeElements([1, 1, 0, 0, null], [1, 0, 1, 0, 0]);
  const chips = fake(elementContent(run, makeRow({ unit: 1 }), elements)).all("li");
  const expected = ["redgiven, predicted", "bluegiven", "greenpredicted", "grey", "pinkignored"];
  assert.deepEqual(chips.map((chip) => chip.textContent), expected);
  assert.deepEqual(chips.map((chip) => chip.attributes.has("aria-current")), [false, true, false, false, false]);
});

Deno.test("of many labels, those that are neither given nor predicted are folded", () => {
  const targets = Array.from({ length: 40 }, (_, label) => Number(label === 7));
  const content = fake(elementContent(makeRun("multi_label"), makeRow({ unit: 9 }), makeElements(targets, targets)));
  assert.equal(content.all("details")[0].all("li").length, 38);
  assert.deepEqual(content.all("ul")[0].all("li").map((chip) => chip.textContent), [
    "label 7given, predicted",
    "label 9",
  ]);
});

Deno.test("the span under review is marked, and each wrong span has its classes", () => {
  const run = makeRun("tokens", ["O", "PER", "LOC"]);
  const tokens = ["I", "met", "New", "York", "Bob", "today"];
  const elements = makeElements([0, 0, 1, 1, 1, null], [0, 0, 2, 2, 0, 1]);
  const content = fake(elementContent(run, makeRow({ unit: [2, 4], attributes: { tokens } }), elements));
  assert.equal(content.textContent, "I met NewPER → LOC York BobPER → O today ");
  assert.deepEqual(content.all("mark").map((mark) => mark.textContent), ["NewPER → LOC York"]);
  const text = makeRow({ unit: [2, 4], target: 1, suggested: 2, attributes: { text: "New York" } });
  assert.match(fake(elementContent(run, text, elements)).textContent, /tokens 2 to 3 of 6: given PER, suggested LOC/);
  const noElements = fake(elementContent(run, makeRow({ unit: [1, 2], attributes: { tokens } }), null));
  assert.deepEqual(noElements.all("mark").map((mark) => mark.textContent), ["metO → PER"]);
});

Deno.test("of a long text the tokens around the span are shown", () => {
  const tokens = Array.from({ length: 5000 }, (_, place) => `w${place}`);
  const row = makeRow({ unit: [4000, 4001], attributes: { tokens, source: "web" } });
  const targets = tokens.map(() => 0);
  const { textContent } = fake(elementContent(makeRun("tokens"), row, makeElements(targets, targets)));
  assert.ok(textContent.startsWith("… w3500 ") && textContent.includes("w4499 …Tokens 3,500 to 4,499 of 5,000."));
  assert.ok(textContent.endsWith("sourceweb"));
});

Deno.test("a mask with too many elements is described by its region", () => {
  const row = makeRow({ unit: 3, num_elements: 1, box: [[5, 6], [6, 7]], target: 0, suggested: 1 });
  const { textContent } = fake(elementContent(makeRun("masks", ["sky", "bird"]), row, null));
  assert.match(textContent, /region 3: 1 element, rows 5 to 5, columns 6 to 6; given sky, predicted bird\./);
  const pictured = makeRow({ unit: null, target: null, attributes: { image: "data:image/png;base64," } });
  assert.equal(fake(elementContent(makeRun("masks"), pictured, null)).all("img").length, 1);
});

Deno.test("elements are loaded once while they are among the last examples, and again after a failure", async () => {
  /** @type {string[]} */
  const loads = [];
  const elements = makeElements([], []);
  const cache = new ElementsCache((id) => {
    loads.push(id);
    if (loads.length === 1) return Promise.reject(new Error("busy"));
    return Promise.resolve({ elements });
  });
  await assert.rejects(cache.get("a"));
  const { log_odds: _, ...shown } = elements;
  assert.deepEqual(await cache.get("a"), shown);
  assert.equal(await cache.get("a"), await cache.get("a"));
  assert.deepEqual(loads, ["a", "a"]);
  for (let place = 0; place < 15; place += 1) await cache.get(`b${place}`);
  await cache.get("a");
  assert.equal(loads.length, 17);
  for (let place = 0; place < 16; place += 1) await cache.get(`c${place}`);
  await cache.get("a");
  assert.equal(loads.at(-1), "a");
});
