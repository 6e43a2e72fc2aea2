// Verdicts that the service did not store: the error, or what somebody else has said in the meantime.

import { h, problem, when } from "../../lib/dom.js";
import { verdictText } from "../labels.js";
import { unsavedRows } from "./queue_progress.js";
import { reviewerName } from "./row_reviews.js";

/** @import { Person, ReviewedRow, Run } from "../../types.d.ts" */
/** @import { FailedStep } from "../../lib/reviews.js" */

/**
 * The row of a step that somebody else has reviewed in the meantime. Null if that is not the error.
 *
 * @param {FailedStep} failed
 * @returns {ReviewedRow | null}
 */
export function rowReviewedSince({ error, step }) {
  const place = error.code === "review_conflict" ? Number(error.errors?.[0]?.loc[0]) : NaN;
  return step[place]?.row || null;
}

/**
 * A notice that somebody else has reviewed a row of the step in the meantime.
 *
 * @param {Run} run
 * @param {ReviewedRow} row
 * @param {FailedStep} failed
 * @param {{ person: Person, keepTheirs: () => void, storeMine: () => void }} options
 */
export function reviewedSince(run, row, { error, step }, { person, keepTheirs, storeMine }) {
  const { current } = error;
  const mine = step.find((verdict) => verdict.row === row);
  const who = current ? reviewerName(current.reviewer, person) : "somebody";
  const said = !current || current.verdict === null
    ? "has taken a verdict back"
    : ["said “", verdictText(run, current.verdict, current.label, row.unit), "”"];
  const many = step.length > 1;
  return h(
    "div",
    { class: "notice warn", role: "alert" },
    h("strong", {}, `Row ${row.rank} was reviewed in the meantime`),
    h(
      "p",
      {},
      `${who[0].toUpperCase()}${who.slice(1)} `,
      said,
      current && [", ", when(current.at)],
      current?.comment && h("q", { class: "comment" }, current.comment),
      ". ",
      mine && mine.verdict !== null &&
        ["Yours, “", verdictText(run, mine.verdict, mine.label, row.unit), "”, is not stored."],
      many && ` None of the ${step.length} verdicts of this step is.`,
    ),
    h(
      "div",
      { class: "settle" },
      h("button", { type: "button", onclick: keepTheirs }, many ? "Store none" : "Leave it at that"),
      h("button", { type: "button", onclick: storeMine }, many ? "Store all the same" : "Store mine as well"),
    ),
  );
}

/**
 * @param {FailedStep} failed
 * @param {Set<ReviewedRow>} rows All rows whose verdict is not stored.
 */
export const notStored = ({ error }, rows) => [problem(error), unsavedRows(rows)];
