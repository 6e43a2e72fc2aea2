// Class names, labels and verdicts in words.

import { h } from "../lib/dom.js";

/** @import { Classes, Verdict } from "../types.d.ts" */

/**
 * The name of a class, "class 3" if the run has no class names, or a dash for null.
 *
 * @param {Pick<Classes, "class_names">} run
 * @param {number | null | undefined} label
 */
export function className(run, label) {
  if (label === null || label === undefined) return "–";
  return run.class_names?.[label] ?? `class ${label}`;
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
 * The given label of a row and the suggested label; a whole structured example has no given one.
 *
 * @param {Classes} run
 * @param {{ target: number | null, suggested: number | null }} row
 */
export function labels(run, { target, suggested }) {
  return h(
    "span",
    { class: "labels" },
    h("span", { class: "hidden-text" }, "given "),
    h("span", { class: "label given" }, target === null ? "" : className(run, target)),
    h("span", { class: "hidden-text" }, ", suggested "),
    h("span", { class: "muted", "aria-hidden": "true" }, "→"),
    suggested === null
      ? h("span", { class: "muted" }, "no other")
      : h("span", { class: "label suggested" }, className(run, suggested)),
  );
}

/**
 * A verdict in words, with the right class if the verdict names it.
 *
 * @param {Pick<Classes, "class_names">} run
 * @param {Verdict} verdict
 * @param {number | null} [label]
 */
export function verdictText(run, verdict, label) {
  if (verdict === "ok") return "Kept";
  if (verdict === "unsure") return "Not sure";
  if (verdict === "wrong") return label === null || label === undefined ? "Wrong" : `Wrong: ${className(run, label)}`;
  return "Open";
}

/**
 * @param {Classes} run
 * @param {{ verdict: Verdict, verdict_label?: number | null, saving?: number }} row
 */
export function verdictBadge(run, row) {
  if (row.saving) return h("span", { class: "badge" }, "Saving …");
  const kind = row.verdict === null ? "" : { ok: "good", wrong: "bad", unsure: "warn" }[row.verdict];
  return h("span", { class: `badge ${kind}` }, verdictText(run, row.verdict, row.verdict_label));
}
