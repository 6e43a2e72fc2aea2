import assert from "node:assert/strict";

import { queueName } from "../../service/web/components/queue/open_queue.js";
import { batchNames, classNames, mediaTypeOf, rowText, validName } from "../../service/web/lib/run_upload.js";

Deno.test("the name of a file becomes a valid name of a run", () => {
  assert.equal(validName("My predictions (final)"), "My-predictions-final");
  assert.equal(validName("..hidden"), "hidden");
  assert.equal(validName("日本"), "run");
  assert.equal(validName("x".repeat(200)).length, 90);
});

Deno.test("files of the same name get different batches", () => {
  const files = ["a.csv", "b.csv", "a.csv", "a.csv"].map((name) => ({ name }));
  assert.deepEqual(batchNames(files), ["a.csv", "b.csv", "a.csv-2", "a.csv-3"]);
});

Deno.test("the ending of a file tells its media type", () => {
  assert.equal(mediaTypeOf("A.B.CSV"), "text/csv");
  assert.equal(mediaTypeOf("rows.tsv"), "text/tab-separated-values");
  assert.equal(mediaTypeOf("run.feather"), mediaTypeOf("run.arrow"));
  assert.equal(mediaTypeOf("picture.png"), undefined);
  assert.equal(mediaTypeOf("csv.bak"), undefined);
});

Deno.test("the place of a fault is a row, and a class if there is one", () => {
  assert.equal(rowText(["batches", 0, "targets", 7]), "row 7:");
  assert.equal(rowText(["batches", 0, "logits", 7, 2]), "row 7, class 2:");
  assert.equal(rowText(["batches", 0]), "");
  assert.equal(rowText(["body", 0, "x", 1]), "");
});

Deno.test("the name of a queue is valid, or null", () => {
  assert.equal(queueName("new s/letter", "taken-for", "spam", "epoch", 2), "new-s-letter-taken-for-spam-epoch-2");
  assert.equal(queueName("_a"), "a");
  assert.equal(queueName("日本"), null);
  assert.equal(queueName("x".repeat(200))?.length, 100);
});

Deno.test("class names stand in lines, or in one line between commas", () => {
  const names = ["tench, Tinca tinca", "goldfish, Carassius auratus"];
  assert.deepEqual(classNames(`\n ${names.join("\r\n")}\n\n`), names);
  assert.deepEqual(classNames(`"${names[0]}" , "${names[1]}"`), names);
  assert.deepEqual(classNames("spam, ham ,,news,"), ["spam", "ham", "news"]);
  assert.deepEqual(classNames('a "b" c, "say ""no""", "'), ['a "b" c', 'say "no"', '"']);
  assert.deepEqual(classNames(" \n"), []);
});
