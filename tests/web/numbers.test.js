import assert from "node:assert/strict";

import { precisionText } from "../../service/web/components/queue/strategies.js";
import { number, percent, sentence } from "../../service/web/lib/dom.js";
import { sizeText } from "../../service/web/lib/run_upload.js";

Deno.test("numbers have four significant digits, integers all of theirs", () => {
  /** @type {[number | null | undefined, string][]} */
  const expected = [
    [0, "0"],
    [12, "12"],
    [1234567, "1,234,567"],
    [0.123456, "0.1235"],
    [1234.5678, "1,235"],
    [-0.5, "-0.5"],
    [0.00001234, "1.23e-5"],
    [12345678.9, "1.23e+7"],
    [null, "–"],
    [undefined, "–"],
  ];
  for (const [value, text] of expected) assert.equal(number(value), text);
  assert.equal(number(0.123456, 2), "0.12");
});

Deno.test("a share is a percentage with a space that does not break", () => {
  assert.equal(percent(0.1234), "12.3\u00a0%");
  assert.equal(percent(1, 0), "100\u00a0%");
  assert.equal(percent(null), "–");
  assert.equal(sentence("About 12 % of 3 %."), "About 12\u00a0% of 3\u00a0%.");
});

Deno.test("the size of a file is in kB or MB", () => {
  assert.equal(sizeText(1500), "1.5 kB");
  assert.equal(sizeText(99_999), "100 kB");
  assert.equal(sizeText(263_400_000), "260 MB");
});

Deno.test("the precision of a strategy has its interval, and leaves out rows that are not sure", () => {
  const precision = { share: 0.75, low: 0.301, high: 0.954, wrong: 3, reviewed: 5, judged: 4, unsure: 1 };
  assert.deepEqual(precisionText(precision), ["75 %", "3 of 4 wrong; 30–95 % (95 %)"]);
  assert.deepEqual(precisionText({ ...precision, share: null }), ["–", "no verdicts yet"]);
  assert.deepEqual(precisionText(undefined), ["–", "no verdicts yet"]);
});
