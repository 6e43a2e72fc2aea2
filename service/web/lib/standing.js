// The reviews of a row that count, and the verdict that follows from them; as `service/runs/review_history.py` has it.

/** @import { CurrentVerdict, ReviewedRow, RowReview, Verdict } from "../types.d.ts" */
/** @typedef {Omit<RowReview, "verdict"> & { verdict: Verdict }} AddedReview With the verdict null to withdraw one. */
/** @typedef {{ verdict: CurrentVerdict, label: number | null }} Standing */

/**
 * The verdict of several reviewers: that of the adjudication, or else the one that they have in common, or `conflict`.
 *
 * @param {RowReview[]} reviews At most one of each reviewer, and one adjudication.
 * @returns {Standing}
 */
export function standingOf(reviews) {
  const adjudicated = reviews.find((review) => review.adjudicated);
  if (adjudicated) return { verdict: adjudicated.verdict, label: adjudicated.label };
  const verdicts = new Set(reviews.map(({ verdict }) => verdict));
  const labels = new Set(reviews.map(({ label }) => label).filter((label) => label !== null));
  if (verdicts.size > 1 || labels.size > 1) return { verdict: "conflict", label: null };
  const [verdict = null] = verdicts, [label = null] = labels;
  return { verdict, label };
}

/**
 * Add a review to those of a row. It takes the place of the reviewer's last one, or of the last adjudication; with the
 * verdict null it only removes that.
 *
 * @param {ReviewedRow} row It is changed.
 * @param {AddedReview} review
 */
export function addReview(row, review) {
  const others = row.reviews.filter((other) =>
    other.adjudicated !== review.adjudicated || (!review.adjudicated && other.reviewer !== review.reviewer)
  );
  const { verdict: added } = review;
  row.reviews = added === null ? others : [...others, { ...review, verdict: added }];
  row.review = review.review;
  const { verdict, label } = standingOf(row.reviews);
  row.verdict = verdict;
  row.verdict_label = label;
}

/**
 * The review of a person that counts; undefined if there is none.
 *
 * @param {Pick<ReviewedRow, "reviews">} row
 * @param {string | null} reviewer
 */
export const reviewOf = ({ reviews }, reviewer) =>
  reviews.find((review) => !review.adjudicated && review.reviewer === reviewer);

/**
 * The review that settles what reviewers disagree about; undefined if there is none.
 *
 * @param {Pick<ReviewedRow, "reviews">} row
 */
export const adjudicationOf = ({ reviews }) => reviews.find((review) => review.adjudicated);

/**
 * The different verdicts of a conflict, each with the reviewers that gave it.
 *
 * @param {Pick<ReviewedRow, "reviews">} row
 */
export function sidesOf({ reviews }) {
  /** @type {Map<string, { verdict: RowReview["verdict"], label: number | null, reviewers: (string | null)[] }>} */
  const sides = new Map();
  for (const { verdict, label, reviewer, adjudicated } of reviews) {
    if (adjudicated) continue;
    const key = `${verdict} ${label}`;
    const side = sides.get(key) || { verdict, label, reviewers: [] };
    side.reviewers.push(reviewer);
    sides.set(key, side);
  }
  return [...sides.values()];
}
