// How many wrong labels are left, and how far the reviewers agree.

import { h, head, number, percent } from "../lib/dom.js";
import { toExample, toQueue } from "../lib/route.js";
import { card } from "./layout.js";

/** @import { Agreement, Remaining, Run } from "../types.d.ts" */

const MAX_REVIEWERS = 8, MAX_CONFLICTS = 5;

/**
 * @param {Run} run
 * @param {Remaining} remaining
 */
export function remainingCard(run, { message, next }) {
  return card(
    "Wrong labels left",
    h("p", {}, message),
    next && next.predictions.length > 0 && [
      h("p", {}, "In the next open rows of ", h("a", { href: toQueue(run.run, next.queue) }, next.queue), ":"),
      h("ul", {}, next.predictions.map((prediction) => h("li", {}, predictionText(prediction)))),
    ],
  );
}

/** @param {NonNullable<Remaining["next"]>["predictions"][number]} prediction */
export const predictionText = ({ rows, expected, low, high }) =>
  `${number(rows)} ${rows === 1 ? "row" : "rows"}: about ${number(Math.round(expected))} wrong ` +
  `(${number(low)} to ${number(high)} with 95\u00a0% confidence)`;

/**
 * The reviewers, and their agreement. Null without a review that has a name.
 *
 * @param {Run} run
 * @param {Agreement} agreement
 */
export function reviewersCard(run, agreement) {
  const { reviewers, num_conflicts: conflicts } = agreement;
  if (!reviewers.some(({ reviewer }) => reviewer !== null)) return null;
  const hasGold = reviewers.some(({ gold }) => gold?.rows);
  return card(
    "Reviewers",
    h("p", {}, agreementText(agreement)),
    h(
      "table",
      {},
      h("caption", { class: "hidden-text" }, "Reviewers of this run"),
      head("Reviewer", ["Reviewed"], ["Wrong"], hasGold && ["Known rows right"]),
      h(
        "tbody",
        {},
        reviewers.slice(0, MAX_REVIEWERS).map(({ reviewer, num_reviewed: reviewed, num_wrong: wrong, gold }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", class: "wrap" }, reviewer ?? "without a name"),
            h("td", { class: "num" }, number(reviewed)),
            h("td", { class: "num" }, number(wrong)),
            hasGold && h("td", { class: "num" }, gold?.rows ? `${number(gold.hits)} of ${number(gold.rows)}` : "–"),
          )
        ),
      ),
    ),
    conflicts > 0 && [
      h("h3", {}, conflicts === 1 ? "1 conflict" : `${number(conflicts)} conflicts`),
      h(
        "ul",
        {},
        agreement.conflicts.slice(0, MAX_CONFLICTS).map(({ id }) =>
          h("li", { class: "wrap" }, h("a", { href: toExample(run.run, id) }, id))
        ),
      ),
      h("p", { class: "hint" }, "In a queue, “Show: in conflict” lists its conflicts, and an owner settles them."),
    ],
  );
}

/** @param {Agreement} agreement */
export function agreementText({ num_compared: compared, krippendorff_alpha: alpha, pairs }) {
  if (!compared) return "No row has the verdicts of two people yet, so nothing tells how far they agree.";
  const both = `${number(compared)} ${compared === 1 ? "row has" : "rows have"} the verdicts of two or more`;
  const same = pairs.reduce((sum, pair) => sum + pair.agreement * pair.num_common, 0) /
    pairs.reduce((sum, pair) => sum + pair.num_common, 0);
  const share = pairs.length ? `; a pair says the same of ${percent(same, 0)}` : "";
  if (alpha.value === null) return `${both}${share}.`;
  const interval = alpha.low === null
    ? ""
    : `, ${number(alpha.low, 2)} to ${number(alpha.high, 2)} with 95\u00a0% confidence`;
  return `${both}${share}. Krippendorff's alpha is ${
    number(alpha.value, 2)
  }${interval} (1: full agreement, 0: chance).`;
}
