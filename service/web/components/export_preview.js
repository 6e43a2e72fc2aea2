// The preview of an export: its validation, its first rows, and the labelling configuration.

import { h, number } from "../lib/dom.js";
import { json } from "../lib/json.js";
import { copyButton } from "./layout.js";

/** @import { Child, ExportPreview } from "../types.d.ts" */

const MAX_CELL_TEXT = 300;
/** @type {Record<string, (tool: string) => string>} */
const VALIDATORS = {
  label_studio_sdk: (tool) => `Label Studio's own validator (${tool})`,
  "documented format": () => "The check of the documented format",
};

/**
 * The result of the validation in words.
 *
 * @param {ExportPreview} preview
 */
export function validationNotice({ validator, rows }) {
  /** @type {(kind: string, title: string, ...content: Child[]) => HTMLElement} */
  const notice = (kind, title, ...content) => h("div", { class: `notice ${kind}` }, h("strong", {}, title), content);
  if (!validator) {
    return notice(
      "warn",
      "Not checked",
      h("p", {}, "No validator has checked these rows. See below how to install one."),
    );
  }
  const { name, version, accepted, refused } = validator;
  const tool = version ? `${name} ${version}` : name;
  const subject = VALIDATORS[name]?.(tool) || `${tool}, reading them back,`;
  const all = rows.length === 1 ? "the row" : `all ${number(rows.length)} rows`;
  if (!refused.length) return notice("good", "Accepted", h("p", {}, `${subject} takes ${all} shown.`));
  return notice(
    "bad",
    accepted ? "Some rows are refused" : "Refused",
    h("p", {}, `${subject} refuses ${number(refused.length)} of ${number(rows.length)} rows shown.`),
    h("ul", {}, refused.map(({ row, id, reason }) => h("li", {}, `Row ${row} (${id || "no id"}): ${reason}`))),
  );
}

/**
 * The first rows, as a table or as JSON.
 *
 * @param {ExportPreview} preview
 * @param {Map<string, boolean>} opened Remembers the unfolded parts of the JSON.
 */
export function previewRows(preview, opened) {
  const { rows, num_rows: total, format } = preview;
  const count = `${number(rows.length)} of ${number(total)} ${total === 1 ? "row" : "rows"}`;
  return [
    h("p", { class: "muted count" }, count),
    ["csv", "parquet"].includes(format) ? previewTable(preview) : h(
      "div",
      { class: "card json" },
      rows.map((row, place) => json(row, `Row ${place + 1}`, { open: place === 0, opened })),
    ),
  ];
}

/**
 * The rows of a flat file, a column for each row: the rows are few, their columns many.
 *
 * @param {ExportPreview} preview
 */
function previewTable({ columns = [], rows }) {
  const region = { class: "card table-card", tabindex: 0, role: "region", "aria-label": "The first rows" };
  return h(
    "div",
    region,
    h(
      "table",
      { class: "flat" },
      h("caption", { class: "hidden-text" }, "The first rows, one in each column"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Column"),
          rows.map((_, place) => h("th", { scope: "col" }, `Row ${place + 1}`)),
        ),
      ),
      h(
        "tbody",
        {},
        columns.map((name) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("code", {}, name)),
            rows.map((row) => h("td", { dir: "auto" }, cellText(row[name]))),
          )
        ),
      ),
    ),
  );
}

/** @param {unknown} value */
function cellText(value) {
  if (value === null || value === "") return h("span", { class: "muted" }, "empty");
  const text = String(value);
  return text.length > MAX_CELL_TEXT ? `${text.slice(0, MAX_CELL_TEXT)} …` : text;
}

/**
 * The labelling configuration of Label Studio.
 *
 * @param {string} config
 */
export function configCard(config) {
  return h(
    "section",
    { class: "card" },
    h("div", { class: "export-head" }, h("h2", {}, "Labelling configuration"), copyButton(config)),
    h(
      "p",
      { class: "muted" },
      "Put it into the project's settings, Labeling Interface, Code: it has the names and classes of this file.",
    ),
    h("pre", { tabindex: 0, role: "region", "aria-label": "Labelling configuration" }, h("code", {}, config)),
  );
}
