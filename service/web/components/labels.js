// Class names, labels and verdicts in words.

import { h, number } from "../lib/dom.js";
import { unitText } from "../lib/units.js";

/** @import { Classes, CurrentVerdict, NamedClasses, Unit } from "../types.d.ts" */

const KINDS = { ok: "good", wrong: "bad", unsure: "warn", exclude: "warn", conflict: "warn" };

/**
 * The name of a class, "class 3" if the run has no class names, or a dash for null. The classes of a unit of a
 * multi-label run are 0 and 1: "not red" and "red" for the label red.
 *
 * @param {NamedClasses} run
 * @param {number | null | undefined} label
 * @param {Unit} [unit]
 * @returns {string}
 */
export function className(run, label, unit = null) {
  if (label === null || label === undefined) return "–";
  if (run.task !== "multi_label") return run.class_names?.[label] ?? `class ${label}`;
  if (typeof unit === "number") return label ? className(run, unit) : `not ${className(run, unit)}`;
  return run.class_names?.[label] ?? `label ${label}`;
}

/**
 * An `option` for each class.
 *
 * @param {Classes} run
 */
export function classOptions(run) {
  return Array.from(
    { length: run.num_classes || run.class_names?.length || 0 },
    (_, label) => h("option", { value: label }, className(run, label)),
  );
}

/**
 * The given label of a row and the suggested label.
 *
 * @param {Classes} run
 * @param {{ target: number | null, suggested: number | null, unit?: Unit, suggestion?: "shown" | "hidden" }} row
 */
export function labels(run, { target, suggested, unit, suggestion }) {
  if (target === null) return h("span", { class: "muted" }, "whole example");
  return h(
    "span",
    { class: "labels" },
    h("span", { class: "hidden-text" }, "given "),
    h("span", { class: "label given" }, className(run, target, unit)),
    h("span", { class: "hidden-text" }, ", suggested "),
    h("span", { class: "muted", "aria-hidden": "true" }, "→"),
    suggested === null
      ? h("span", { class: "muted" }, suggestion === "hidden" ? "hidden" : "no other")
      : h("span", { class: "label suggested" }, className(run, suggested, unit)),
  );
}

/**
 * A unit in words; empty for a whole example.
 *
 * @param {NamedClasses} run
 * @param {Unit | undefined} unit
 */
export const unitName = (run, unit) =>
  run.task === "multi_label" && typeof unit === "number" ? className(run, unit) : unitText(unit);

/**
 * The span or region of a row in words; empty for other rows. A label needs none: it is the given label of its row.
 *
 * @param {NamedClasses} run
 * @param {Unit | undefined} unit
 */
const placeText = ({ task }, unit) => task === "multi_label" ? "" : unitText(unit);

/**
 * The span or region of a row as an element; empty for other rows.
 *
 * @param {NamedClasses} run
 * @param {{ unit?: Unit, num_elements?: number }} row
 */
export function unitBadge(run, { unit, num_elements: count = 0 }) {
  const text = placeText(run, unit);
  return text && h("small", { class: "unit" }, run.task === "masks" ? `${text}, ${number(count)} elements` : text);
}

/**
 * A row in words, for screen readers.
 *
 * @param {NamedClasses} run
 * @param {{ rank: number, id: string, unit?: Unit, target: number | null }} row
 */
export function rowText(run, { rank, id, unit, target }) {
  const given = target === null ? "whole example" : `given ${className(run, target, unit)}`;
  return `Row ${rank}: ${[id, placeText(run, unit), given].filter(Boolean).join(", ")}.`;
}

/**
 * A verdict in words, with the right class if the verdict names it.
 *
 * @param {NamedClasses} run
 * @param {CurrentVerdict} verdict
 * @param {number | null} [label]
 * @param {Unit} [unit]
 */
export function verdictText(run, verdict, label, unit) {
  if (verdict === "ok") return "Kept";
  if (verdict === "unsure") return "Not sure";
  if (verdict === "exclude") return "Excluded";
  if (verdict === "conflict") return "Conflict";
  if (verdict === "wrong") {
    return label === null || label === undefined ? "Wrong" : `Wrong: ${className(run, label, unit)}`;
  }
  return "Open";
}

/**
 * @param {Classes} run
 * @param {{ verdict: CurrentVerdict, verdict_label?: number | null, unit?: Unit, saving?: number }} row
 */
export function verdictBadge(run, row) {
  if (row.saving) return h("span", { class: "badge" }, "Saving …");
  const kind = row.verdict === null ? "" : KINDS[row.verdict];
  return h("span", { class: `badge ${kind}` }, verdictText(run, row.verdict, row.verdict_label, row.unit));
}
