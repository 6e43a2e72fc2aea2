// The figures above a queue: how far its review is, and what it has found.

import { precisionText, tile } from "./parts.js";
import { bar, h, number } from "../lib/dom.js";

/** Four tiles: rows reviewed, wrong labels found, precision of the strategy, and what is expected. */
export function progressTiles(queue, { wrong, judged, reviewed }, precision) {
  const { num_rows: all, expected_yield: expected } = queue;
  const [share, sure] = precisionText(precision);
  return [
    tile("Reviewed", h("span", {}, `${number(reviewed)} of ${number(all)}`), bar(reviewed / (all || 1), "good")),
    tile("Wrong labels here", judged ? `${number(wrong)} of ${number(judged)}` : "–", "of the rows judged so far"),
    tile("Precision of the strategy", share, sure),
    tile(
      "Expected in all rows",
      `about ${number(Math.round(expected.wrong_labels))}`,
      h("span", { class: "caveat" }, expected.caveat),
    ),
  ];
}
