// The classes of a run: their losses, the quality of their labels, and the confusion matrix.

import { elementClasses, elementConfusions } from "../components/elements/class_tables.js";
import { confusionMatrix } from "../components/confusion_matrix.js";
import { className } from "../components/labels.js";
import { runHead } from "../components/layout.js";
import { bar, h, number, percent } from "../lib/dom.js";
import { address, toExamples } from "../lib/route.js";
import { getDiagnostics, getRun } from "../lib/runs_api.js";
import { isStructured } from "../lib/units.js";

/** @import { ClassStatistics, Diagnostics, Run, View } from "../types.d.ts" */
/** @typedef {"name" | "count" | "mean_loss" | "loss_share" | "recall" | "label_noise" | "inverse_label_noise" | "often_truly"} Column */

/**
 * Columns of the table: key, heading, true for a number.
 *
 * @type {[key: Column, heading: string, isNumber: boolean][]}
 */
const COLUMNS = [
  ["name", "Class", false],
  ["count", "Examples", true],
  ["mean_loss", "Mean loss", true],
  ["loss_share", "Share of the loss", true],
  ["recall", "Recall", true],
  ["label_noise", "Wrong labels", true],
  ["inverse_label_noise", "Missed here", true],
  ["often_truly", "Often truly", false],
];
/** @type {Partial<Record<Column, string>>} */
const MEANINGS = {
  label_noise: "Share of the examples with this label that probably belong to another class",
  inverse_label_noise: "Share of the examples of this class that probably have another label",
  often_truly: "The class that its wrong labels most often have, by the model",
};

/** @param {View} view */
export async function classesView({ parts, query, signal, refused }) {
  const name = parts[1];
  const run = await getRun(name, signal);
  if (!run.num_examples) {
    return h("section", {}, runHead(name, "classes"), h("p", { class: "card muted" }, "The run has no examples yet."));
  }
  const structured = isStructured(run);
  const fields = structured ? "elements" : "classes,confusion";
  const diagnostics = await getDiagnostics(name, { fields }, signal);
  const notice = h("div", {});
  return h(
    "section",
    {},
    runHead(name, "classes"),
    h(
      "p",
      { class: "lead" },
      `Epoch ${diagnostics.epoch}. A class with many wrong labels is worth a queue of its own.`,
    ),
    notice,
    h(
      "div",
      { class: "card table-card" },
      structured
        ? elementClasses(run, diagnostics.elements)
        : classTable(run, diagnostics, query.get("sort") || "-loss_share"),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Which is taken for which"),
      structured
        ? elementConfusions(run, diagnostics, notice, refused)
        : confusionMatrix(run, diagnostics, notice, refused),
    ),
  );
}

/**
 * @param {Run} run
 * @param {Diagnostics} diagnostics
 * @param {string} sort A column, with a minus for descending order.
 */
function classTable(run, diagnostics, sort) {
  const shown = COLUMNS.filter(([column]) => column in diagnostics.classes[0]);
  const column = /** @type {Column} */ (sort.replace(/^-/, ""));
  const direction = sort.startsWith("-") ? -1 : 1;
  const rows = [...diagnostics.classes].sort((a, b) =>
    direction * compare(sortValue(run, a, column), sortValue(run, b, column)) || a.class - b.class
  );
  const largest = Math.max(...rows.map((row) => row.loss_share || 0));
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, "Classes; the heads of the columns sort them"),
    h("thead", {}, h("tr", {}, shown.map((heading) => columnHead(run, heading, column, direction)))),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h(
          "tr",
          {},
          shown.map(([key, text, isNumber]) => {
            if (key !== "name") {
              return h("td", { class: isNumber && "num", "data-label": text }, cell(run, row, key, largest));
            }
            const href = toExamples(run.run, { target: row.class, epoch: diagnostics.epoch });
            return h("th", { scope: "row" }, h("a", { href }, className(run, row.class)));
          }),
        )
      ),
    ),
  );
}

/**
 * The head of a column, a link that sorts by the column or reverses the order.
 *
 * @param {Run} run
 * @param {typeof COLUMNS[number]} column
 * @param {string} sorted The column that the table is sorted by.
 * @param {number} direction -1 for descending order.
 */
function columnHead(run, [key, text, isNumber], sorted, direction) {
  const current = key === sorted;
  const descending = direction < 0;
  const href = address(["runs", run.run, "classes"], { sort: current && descending ? key : `-${key}` });
  return h(
    "th",
    {
      scope: "col",
      class: isNumber && "num",
      title: MEANINGS[key],
      "aria-sort": current ? (descending ? "descending" : "ascending") : null,
    },
    h(
      "a",
      { href, class: "sort" },
      text,
      current && h("span", { "aria-hidden": "true" }, descending ? " ↓" : " ↑"),
    ),
  );
}

/**
 * @param {Run} run
 * @param {ClassStatistics} row
 * @param {Column} column
 */
function sortValue(run, row, column) {
  if (column === "name") return className(run, row.class);
  return column === "often_truly" ? className(run, row.often_truly) : row[column];
}

/**
 * Compare numbers, or texts with numbers in them. Null comes first.
 *
 * @param {string | number | null | undefined} a
 * @param {string | number | null | undefined} b
 */
function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") {
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  return (a ?? -Infinity) - (b ?? -Infinity);
}

/**
 * @param {Run} run
 * @param {ClassStatistics} row
 * @param {Exclude<Column, "name">} column
 * @param {number} largest The largest share of the loss, the end of the bars' scale.
 */
function cell(run, row, column, largest) {
  const value = row[column];
  if (column === "count") return number(value);
  if (column === "mean_loss") return number(value, 3);
  if (column === "often_truly") return className(run, value);
  if (column === "loss_share") {
    return h(
      "span",
      { class: "progress" },
      bar((value || 0) / (largest || 1), "bad"),
      h("span", { class: "share" }, percent(value, 0)),
    );
  }
  return percent(value);
}
