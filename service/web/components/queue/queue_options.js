// The options of a new queue behind "More choices". Only options that fit the strategy are shown.

import { h } from "../../lib/dom.js";
import { getExamples } from "../../lib/runs_api.js";
import { isStructured } from "../../lib/units.js";
import { field, numberInput, showInputs } from "../form_inputs.js";
import { rankUnits } from "./strategies.js";

/** @import { QueueRequest, Run } from "../../types.d.ts" */
/**
 * The strategies of the queue, its kind of quotas, and true if its rows have one class each.
 *
 * @typedef {{ used: string[], quotas: string, haveClasses: boolean }} Chosen
 */
/**
 * @typedef {object} Option
 * @property {HTMLElement} element
 * @property {(chosen: Chosen) => boolean} fits True if the option applies.
 * @property {() => Partial<QueueRequest>} members Its members of the request.
 */

/**
 * @param {string} key The member of the request.
 * @param {string} label
 * @param {Record<string, any>} attributes
 * @param {Option["fits"]} fits
 * @returns {Option}
 */
function numberOption(key, label, attributes, fits) {
  const input = numberInput(key, attributes);
  return {
    element: h("div", {}, h("label", { for: key }, label), input),
    fits,
    members: () => (input.value === "" ? {} : { [key]: Number(input.value) }),
  };
}

/**
 * A share of the rows, in per cent.
 *
 * @param {"without_suggestion" | "gold"} key The member of the request.
 * @param {string} label
 * @param {number} max
 * @returns {Option}
 */
function shareOption(key, label, max) {
  const input = numberInput(key, { min: 0, max, step: "any", placeholder: "0" });
  return {
    element: field(key, label, input),
    fits: () => true,
    members: () => (input.value === "" ? {} : { [key]: Number(input.value) / 100 }),
  };
}

/**
 * A box to tick.
 *
 * @param {"blind"} key The member of the request.
 * @param {string} label
 * @returns {Option}
 */
function boxOption(key, label) {
  const box = h("input", { id: key, type: "checkbox" });
  return {
    element: h("div", {}, h("label", { class: "check", for: key }, box, label)),
    fits: () => true,
    members: () => (box.checked ? { [key]: true } : {}),
  };
}

/**
 * A limit of rows with the same value of an attribute, or in a structured run of the same example.
 *
 * @param {Run} run
 * @param {HTMLDataListElement} names
 * @returns {Option}
 */
function attributeLimit(run, names) {
  const structured = isStructured(run);
  const attribute = h("input", {
    id: "at-most-attribute",
    list: names.id,
    autocomplete: "off",
    placeholder: structured ? "example" : "an attribute",
  });
  const count = numberInput("at-most-count", structured ? { min: 1, placeholder: "any" } : { min: 1, value: 1 });
  return {
    element: h(
      "div",
      {},
      h("label", { for: "at-most-attribute" }, "At most so many with the same"),
      h(
        "div",
        { class: "pair" },
        attribute,
        names,
        h("label", { class: "hidden-text", for: "at-most-count" }, "At most how many"),
        count,
      ),
    ),
    fits: () => true,
    members: () => {
      if (!count.value || (!attribute.value && !structured)) return {};
      return { at_most: { attribute: attribute.value || null, count: Number(count.value) } };
    },
  };
}

/**
 * The options. `members` are their members of the request; `fit` shows those that fit; `wholeExamples` is true if the
 * rows of a structured run are to be whole examples.
 *
 * @param {Run} run
 */
export function queueOptions(run) {
  const names = h("datalist", { id: "attribute-names" });
  const units = h(
    "select",
    { id: "units" },
    h("option", { value: "" }, "One for each part that is wrong"),
    h("option", { value: "whole" }, "Whole examples"),
  );
  const reviewed = h("input", { id: "exclude-reviewed", type: "checkbox" });
  /** @type {boolean | null} The service's default of `exclude_reviewed` for the strategy. */
  let excludesReviewed = null;
  /** @type {(name: string) => Option["fits"]} */
  const usedBy = (name) => ({ used }) => used.includes(name);
  /** @type {Option[]} */
  const options = [
    numberOption(
      "first",
      "Only the first epochs",
      { min: 1, max: run.epochs.length || 1, placeholder: "all" },
      usedBy("area_under_margin"),
    ),
    numberOption(
      "margin",
      "Semi-hard up to a margin of",
      { min: 0, step: "any", placeholder: "1" },
      usedBy("semi_hard"),
    ),
    numberOption(
      "share",
      "Share of the loss, from 0 to 1",
      { min: 0, max: 1, step: "any", placeholder: "0.5" },
      usedBy("top_share"),
    ),
    numberOption(
      "seed",
      "Seed of the draw",
      { min: 0, max: Number.MAX_SAFE_INTEGER, placeholder: "0" },
      usedBy("random"),
    ),
    numberOption(
      "min_per_class",
      "At least of each class",
      { min: 0, placeholder: "0" },
      ({ quotas, haveClasses }) => haveClasses && quotas !== "numbers",
    ),
    attributeLimit(run, names),
    {
      element: field("units", "Rows", units),
      fits: ({ used }) => isStructured(run) && rankUnits(used),
      members: () => (units.value ? { units: false } : {}),
    },
    {
      element: h(
        "div",
        {},
        h("label", { class: "check", for: "exclude-reviewed" }, reviewed, "Leave out rows that have a verdict"),
      ),
      fits: () => true,
      members: () => (reviewed.checked === excludesReviewed ? {} : { exclude_reviewed: reviewed.checked }),
    },
    numberOption("overlap", "Reviewers of each row", { min: 1, placeholder: "1" }, () => true),
    shareOption("without_suggestion", "Rows without a suggestion, in %", 100),
    shareOption("gold", "Settled rows again, to check reviewers, in %", 50),
    boxOption("blind", "Hide the verdicts of others until one's own"),
  ];
  const element = h(
    "details",
    { class: "more-choices" },
    h("summary", {}, "More choices"),
    options.map((option) => option.element),
  );
  element.addEventListener("toggle", async () => {
    const { rows } = await getExamples(run.run, { limit: 1 }).catch(() => ({ rows: [] }));
    names.replaceChildren(...Object.keys(rows[0]?.attributes || {}).map((value) => h("option", { value })));
  }, { once: true });
  /** @type {(strategy: string, chosen: Chosen) => void} */
  const fit = (strategy, chosen) => {
    for (const option of options) showInputs(option.element, option.fits(chosen));
    // A random sample estimates the error rate of all examples, so by default it includes reviewed ones.
    const byDefault = strategy !== "random";
    if (excludesReviewed !== byDefault) reviewed.checked = excludesReviewed = byDefault;
  };
  const members = () =>
    Object.assign({}, ...options.filter((option) => !option.element.hidden).map((option) => option.members()));
  return { element, fit, members, wholeExamples: () => units.value !== "" };
}
