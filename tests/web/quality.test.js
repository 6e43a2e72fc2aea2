import assert from "node:assert/strict";

import { broughtText, correctedText } from "../../service/web/components/corrected_card.js";
import { agreementText, predictionText } from "../../service/web/components/quality_cards.js";

/** @import { Agreement, Run } from "../../service/web/types.d.ts" */

Deno.test("the corrected data set in words names only what there is", () => {
  const text = (/** @type {object} */ counts) =>
    correctedText(/** @type {Pick<Run, "reviews">} */ ({ reviews: { num_wrong: 0, ...counts } }));
  assert.equal(text({}), "Your data set with a column for the label to use: 0 labels found wrong.");
  assert.match(
    text({ num_wrong: 1, num_exclude: 2, num_conflict: 1, num_unsure: 3 }),
    /: 1 label found wrong, 2 rows to leave out, 1 conflict to settle, 3 rows not sure\.$/,
  );
});

Deno.test("the verdicts of a file in words", () => {
  assert.equal(broughtText({ added: 1, unchanged: 0, left_out: 0 }), "1 verdict stored.");
  assert.equal(
    broughtText({ added: 1200, unchanged: 3, left_out: 1 }),
    "1,200 verdicts stored, 3 as before, 1 row without a verdict left out.",
  );
});

Deno.test("a prediction has its interval", () => {
  assert.equal(
    predictionText({ rows: 10, expected: 5.6, low: 3, high: 8 }),
    "10 rows: about 6 wrong (3 to 8 with 95\u00a0% confidence)",
  );
});

Deno.test("the agreement in words says if there is nothing to compare, or too little for an interval", () => {
  const text = (/** @type {object} */ members) =>
    agreementText(
      /** @type {Agreement} */ ({
        num_compared: 4,
        pairs: [{ num_common: 3, agreement: 1 }, { num_common: 1, agreement: 0 }],
        krippendorff_alpha: { value: 0.5, low: 0.25, high: 0.875 },
        ...members,
      }),
    );
  assert.match(text({ num_compared: 0 }), /^No row has the verdicts of two people/);
  assert.equal(
    text({}),
    "4 rows have the verdicts of two or more; a pair says the same of 75\u00a0%. Krippendorff's alpha is 0.5, 0.25 to " +
      "0.88 with 95\u00a0% confidence (1: full agreement, 0: chance).",
  );
  assert.match(text({ krippendorff_alpha: { value: 1, low: null, high: null } }), /alpha is 1 \(1: full/);
  const undefinedAlpha = { value: null, low: null, high: null };
  assert.equal(
    text({ num_compared: 1, pairs: [], krippendorff_alpha: undefinedAlpha }),
    "1 row has the verdicts of two or more.",
  );
});
