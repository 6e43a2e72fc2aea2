// The labels that the reviews settle, as a file; and a file with verdicts filled in, back into the run.

import { path, upload } from "../lib/api.js";
import { announce, h, number, problem } from "../lib/dom.js";
import { mediaTypeOf } from "../lib/run_upload.js";
import { callerParameter } from "../lib/session.js";
import { fileDrop } from "./file_drop.js";
import { card } from "./layout.js";

/** @import { AddedReviews, Fault, Person, Run, View } from "../types.d.ts" */

/** @type {[format: string, name: string][]} */
const FORMATS = [["csv", "CSV"], ["jsonl", "JSONL"], ["parquet", "Parquet"]];
const MEDIA_TYPES = {
  csv: "text/csv",
  tsv: "text/tab-separated-values",
  jsonl: "application/x-ndjson",
  ndjson: "application/x-ndjson",
  json: "application/json",
  parquet: "application/vnd.apache.parquet",
  arrow: "application/vnd.apache.arrow.file",
};
const MAX_ERRORS = 5;

/**
 * @param {Run} run
 * @param {Person} person
 * @param {View} view
 * @param {() => Promise<void>} changed Called after verdicts were stored; brings the run up to date.
 */
export function correctedCard(run, person, view, changed) {
  const text = h("p", {}, correctedText(run));
  const stored = async () => {
    await changed();
    text.textContent = correctedText(run);
  };
  return card(
    "The corrected data set",
    text,
    h(
      "p",
      { class: "formats" },
      "Download as ",
      FORMATS.map(([format, name]) =>
        h(
          "a",
          { class: "button", href: `${path("runs", run.run, "corrected")}?format=${format}`, download: true },
          name,
        )
      ),
    ),
    person.canReview && fileDrop(view.signal, {
      label: "A file with verdicts",
      title: "Drop a file with verdicts here, or choose one",
      hint: "An exported CSV, JSONL, Parquet or Arrow file with the column verdict filled in, or Label Studio's JSON.",
      types: MEDIA_TYPES,
      multiple: false,
      accept: ([file], notice) => sendFile(run, file, { person, view, notice, stored }),
    }),
  );
}

/**
 * The labels of the corrected data set in words.
 *
 * @param {Pick<Run, "reviews">} run
 */
export function correctedText({ reviews }) {
  const { num_wrong: wrong, num_exclude: excluded, num_conflict: conflicts, num_unsure: unsure } = reviews;
  const counts = [
    `${counted(wrong, "label")} found wrong`,
    excluded && `${counted(excluded, "row")} to leave out`,
    conflicts && `${counted(conflicts, "conflict")} to settle`,
    unsure && `${counted(unsure, "row")} not sure`,
  ];
  return `Your data set with a column for the label to use: ${counts.filter(Boolean).join(", ")}.`;
}

/**
 * The verdicts that a file brought, in words.
 *
 * @param {Pick<AddedReviews, "added" | "unchanged" | "left_out">} reply
 */
export function broughtText({ added, unchanged, left_out: leftOut }) {
  const counts = [
    `${counted(added, "verdict")} stored`,
    unchanged && `${number(unchanged)} as before`,
    leftOut && `${counted(leftOut, "row")} without a verdict left out`,
  ];
  return `${counts.filter(Boolean).join(", ")}.`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/**
 * @param {Run} run
 * @param {File} file
 * @param {{ person: Person, view: View, notice: HTMLElement, stored: () => Promise<void> }} options
 */
async function sendFile(run, file, { person, view, notice, stored }) {
  const reading = h("p", { class: "muted", role: "status" }, `Reading ${file.name} …`);
  notice.replaceChildren(reading);
  const url = `${path("runs", run.run, "reviews")}?${callerParameter(person).slice(1)}`;
  try {
    /** @type {AddedReviews} */
    const reply = await upload(url, file, mediaTypeOf(file.name, MEDIA_TYPES) || "", {
      method: "POST",
      progress: () => {},
      signal: view.signal,
    });
    const text = `${file.name}: ${broughtText(reply)}`;
    notice.replaceChildren(h("p", { class: "notice done" }, text));
    announce(text);
    await stored();
  } catch (error) {
    if (error.name === "AbortError" || view.refused(error)) return;
    const others = (error.errors || []).slice(1, MAX_ERRORS);
    notice.replaceChildren(problem(error));
    if (others.length) notice.append(h("ul", {}, others.map((/** @type {Fault} */ { msg }) => h("li", {}, msg))));
  }
}
