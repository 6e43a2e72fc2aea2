// Who said what about the row under review, and the buttons by which an owner settles a conflict.

import { h, when } from "../../lib/dom.js";
import { adjudicationOf, sidesOf } from "../../lib/standing.js";
import { verdictText } from "../labels.js";

/** @import { Judgement, Person, ReviewedRow, RowReview, Run } from "../../types.d.ts" */

const MAX_SHOWN = 20;

/**
 * The reviews of a row that count, and what reviewers disagree about. Null if there is nothing to tell.
 *
 * @param {Run} run
 * @param {ReviewedRow} row
 * @param {object} options
 * @param {Person} options.person
 * @param {(judgement: Judgement) => void} options.settle
 * @param {() => void} options.settleOther Asks for another class.
 */
export function rowReviews(run, row, { person, settle, settleOther }) {
  const { reviews } = row;
  const adjudication = adjudicationOf(row);
  const isOpen = row.verdict === "conflict" && !row.saving;
  const plain = !isOpen && !adjudication && reviews.length === 1 && isOwn(reviews[0], person) && !reviews[0].comment;
  if (!reviews.length || plain) return null;
  return h(
    "section",
    { class: isOpen ? "said notice warn" : "said", "aria-label": "Verdicts on this row" },
    isOpen && h("strong", {}, "The reviewers disagree"),
    h(
      "ul",
      { class: "plain" },
      reviews.slice(-MAX_SHOWN).map((review) => h("li", {}, reviewLine(run, row, review, person))),
    ),
    reviews.length > MAX_SHOWN && h("p", { class: "hint" }, `and ${reviews.length - MAX_SHOWN} earlier ones`),
    isOpen && (person.isOwner ? settleButtons(run, row, settle, settleOther) : h("p", {}, "An owner can settle it.")),
    adjudication && person.isOwner && !row.saving &&
      h(
        "button",
        { type: "button", class: "quiet", onclick: () => settle({ verdict: null, label: null }) },
        "Open the conflict again",
      ),
  );
}

/**
 * @param {RowReview} review
 * @param {Person} person
 */
const isOwn = ({ reviewer, adjudicated }, { name }) => reviewer === name && !adjudicated;

/**
 * A reviewer and his verdict in words: "Kim: Wrong: 6, 3 Mar 2025, 14:05".
 *
 * @param {Run} run
 * @param {ReviewedRow} row
 * @param {RowReview} review
 * @param {Person} person
 */
function reviewLine(run, row, review, person) {
  const who = review.adjudicated
    ? `Settled by ${reviewerName(review.reviewer, person)}`
    : reviewerName(review.reviewer, person);
  return [
    h("strong", {}, who),
    ": ",
    verdictText(run, review.verdict, review.label, row.unit),
    " ",
    h("small", {}, when(review.at)),
    review.comment && h("q", { class: "comment" }, review.comment),
  ];
}

/**
 * The name of a reviewer in a sentence.
 *
 * @param {string | null} reviewer
 * @param {Person} person
 */
export function reviewerName(reviewer, person) {
  if (reviewer === person.name) return "you";
  return reviewer ?? "somebody without a name";
}

/**
 * A button for each side of a conflict, and one for another label.
 *
 * @param {Run} run
 * @param {ReviewedRow} row
 * @param {(judgement: Judgement) => void} settle
 * @param {() => void} settleOther
 */
function settleButtons(run, row, settle, settleOther) {
  const hasOther = row.target !== null && run.task !== "multi_label";
  return h(
    "div",
    { class: "settle", role: "group", "aria-label": "Settle the conflict" },
    h("span", {}, "Settle it:"),
    sidesOf(row).map(({ verdict, label }) =>
      h(
        "button",
        { type: "button", onclick: () => settle({ verdict, label }) },
        verdictText(run, verdict, label, row.unit),
      )
    ),
    hasOther && h("button", { type: "button", onclick: settleOther }, "Another label …"),
  );
}
