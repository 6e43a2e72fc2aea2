// The numbers above a queue: the progress of its review and the wrong labels.

import { bar, h, number } from "../../lib/dom.js";
import { toQueue } from "../../lib/route.js";
import { tile } from "../layout.js";
import { precisionText } from "./strategies.js";

/** @import { Precision, QueuePage, ReviewedRow } from "../../types.d.ts" */
/** @import { QueueRows } from "../../lib/queue_rows.js" */
/** @typedef {ReturnType<QueueRows["counts"]>} QueueCounts */

const MAX_RANKS = 10;

/**
 * Four tiles: reviewed rows, wrong labels, precision of the strategy, expected wrong labels.
 *
 * @param {QueuePage} queue
 * @param {QueueCounts} counts
 * @param {Precision | undefined} precision
 */
export function progressTiles(queue, { wrong, judged, reviewed, conflicts }, precision) {
  const { num_rows: rows, expected_yield: expected } = queue;
  const [share, details] = precisionText(precision);
  return [
    tile("Reviewed", h("span", {}, `${number(reviewed)} of ${number(rows)}`), [
      bar(reviewed / (rows || 1), "good"),
      conflicts > 0 && h(
        "a",
        { href: toQueue(queue.run, queue.name, null, { show: "conflict" }) },
        conflicts === 1 ? "1 conflict" : `${number(conflicts)} conflicts`,
      ),
    ]),
    tile("Wrong labels here", judged ? `${number(wrong)} of ${number(judged)}` : "–", "of the rows judged so far"),
    tile("Precision of the strategy", share, details),
    tile(
      "Expected in all rows",
      `about ${number(Math.round(expected.wrong_labels))}`,
      h("span", { class: "caveat" }, expected.caveat),
    ),
  ];
}

/**
 * The ranks of rows whose verdicts are not stored.
 *
 * @param {Set<ReviewedRow>} rows
 */
export function unsavedRows(rows) {
  const ranks = [...rows].map((row) => row.rank).sort((a, b) => a - b);
  const list = ranks.length > MAX_RANKS
    ? `${ranks.slice(0, MAX_RANKS).join(", ")} and ${ranks.length - MAX_RANKS} more`
    : ranks.join(", ");
  return h("p", { class: "muted" }, `Not kept: row ${list}.`);
}
