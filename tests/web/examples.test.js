import assert from "node:assert/strict";

import { pictureOf } from "../../service/web/components/example_content.js";
import { apiParameters, exampleParameters, queueFilter } from "../../service/web/lib/example_filter.js";
import { defaultValues, exportParameters } from "../../service/web/lib/export_fields.js";

Deno.test("only parameters that the API understands are taken from the address", () => {
  const query = new URLSearchParams("target=1&page=3&attribute.annotator=kim&sort=id&limit=9");
  assert.deepEqual(exampleParameters(query), { target: "1", "attribute.annotator": "kim", sort: "id" });
});

Deno.test("a class is sent by its name where the run has names", () => {
  const parameters = { target: "1", correct: "false" };
  assert.deepEqual(apiParameters({ class_names: ["1", "0"] }, parameters), { target: "0", correct: "false" });
  assert.deepEqual(apiParameters({ class_names: null }, parameters), parameters);
});

Deno.test("a queue gets the filter of the examples", () => {
  assert.equal(queueFilter({ sort: "-loss", epoch: "2" }), null);
  assert.deepEqual(queueFilter({ target: "0", prediction: "3", correct: "false" }), {
    target: 0,
    prediction: 3,
    correct: false,
  });
  assert.deepEqual(queueFilter({ min_loss: "0.5" }), { ranges: { loss: [0.5, null] } });
  assert.deepEqual(queueFilter({ max_loss: "2", "attribute.annotator": "kim" }), {
    ranges: { loss: [null, 2] },
    attributes: { annotator: "kim" },
  });
});

Deno.test("an attribute is a picture by its name, its ending or its data", () => {
  const data = "data:image/png;base64,AAAA";
  assert.equal(pictureOf("anything", data), data);
  assert.equal(pictureOf("image_url", "https://host/1"), "https://host/1");
  assert.equal(pictureOf("file", "https://host/1.JPEG?size=2"), "https://host/1.JPEG?size=2");
  for (const value of ["https://host/1", "http://", "javascript:alert(1).png", "picture.png", 7, null]) {
    assert.equal(pictureOf("file", value), null);
  }
});

Deno.test("the fields of an export fit the run's attributes", () => {
  const texts = [{ attributes: { note: 3, subject: "Hello" } }];
  assert.equal(defaultValues(texts, pictureOf, "classification").data_key, "subject");
  const pictures = [{ attributes: { text: "x", thumbnail: "https://host/a" } }];
  const values = defaultValues(pictures, pictureOf, "classification");
  assert.deepEqual([values.object_tag, values.data_key, values.image_key], ["Image", "thumbnail", "thumbnail"]);
  assert.equal(defaultValues([], pictureOf, "classification").data_key, "text");
});

Deno.test("an export gets the fields of its format only, and a queue or an epoch", () => {
  const values = {
    ...defaultValues([], pictureOf, "classification"),
    queue: "monday",
    epoch: "2",
    gamma: "3",
    other: "x",
  };
  assert.deepEqual(exportParameters({ ...values, format: "csv" }, "masks"), {
    format: "csv",
    queue: "monday",
    gamma: "3",
  });
  assert.deepEqual(exportParameters({ ...values, format: "fiftyone", queue: "" }, "masks"), {
    format: "fiftyone",
    epoch: "2",
    gamma: "3",
    image_key: "image",
  });
});

Deno.test("the fields of an export fit the task of the run", () => {
  const rows = [{ attributes: { author: "kim", picture: "https://host/a.png" } }];
  const masks = exportParameters({ ...defaultValues([], pictureOf, "masks"), format: "label-studio" }, "masks");
  assert.deepEqual([masks.object_tag, masks.to_name, masks.mask_tag], ["Image", "image", "BrushLabels"]);
  const values = { ...defaultValues(rows, pictureOf, "tokens"), format: "label-studio" };
  const tokens = exportParameters(values, "tokens");
  assert.deepEqual([tokens.object_tag, tokens.to_name, tokens.mask_tag], ["Text", "text", undefined]);
});
