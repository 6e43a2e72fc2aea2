// The controls that filter and sort the examples of a run. Each change goes to another address.

import { ATTRIBUTE, attributeFilters } from "../lib/example_filter.js";
import { h } from "../lib/dom.js";
import { address, parseAddress } from "../lib/route.js";
import { isStructured } from "../lib/units.js";
import { anyOption, choice, field } from "./form_inputs.js";
import { classOptions } from "./labels.js";

/** @import { Child, ExampleRow, Run } from "../types.d.ts" */
/** @typedef {Record<string, string>} Parameters */

const SORTS = [
  ["-loss", "largest loss"],
  ["loss", "smallest loss"],
  ["logit_margin", "smallest margin"],
  ["p_t", "smallest p(label)"],
  ["-entropy", "most undecided"],
  ["-el2n", "largest EL2N"],
  ["id", "id"],
];
/** Sort keys of examples with one class, and of structured ones. */
const CLASS_SORTS = [["target", "given class"], ["prediction", "prediction"]];
const ELEMENT_SORTS = [["label_quality", "smallest label quality"], ["-num_wrong", "most wrong elements"]];
const DEFAULT_SORT = "-loss";
/** Attributes with more values, or with longer ones, get no filter. */
const MAX_VALUES = 20, MAX_VALUE_TEXT = 40;

/**
 * @param {Run} run
 * @param {Parameters} parameters The parameters of the address.
 * @param {ExampleRow[]} rows
 */
export function exampleFilters(run, parameters, rows) {
  /** @type {(changed: Parameters) => void} Reads the present address: the previous change may still be loading. */
  const go = (changed) => {
    const query = { ...Object.fromEntries(parseAddress().query), ...changed };
    location.hash = address(["runs", run.run, "examples"], query);
  };
  /** @type {(key: string, label: string, options: Child) => HTMLElement} */
  const filter = (key, label, options) =>
    choice(`filter-${key}`, label, parameters[key] ?? "", options, (value) => go({ [key]: value }));
  /** @type {(key: string, label: string) => HTMLElement} */
  const bound = (key, label) => {
    const id = `filter-${key}`;
    const input = h("input", { id, type: "number", min: 0, step: "any", value: parameters[key] ?? "" });
    input.addEventListener("change", () => go({ [key]: input.value }));
    return field(id, label, input);
  };
  /** @type {(place: 0 | 1, key: string) => void} */
  const setSortKey = (place, key) => {
    const keys = (parseAddress().query.get("sort") || DEFAULT_SORT).split(",").slice(0, 2);
    keys[place] = key;
    go({ sort: keys.filter(Boolean).join(",") });
  };
  const [first, second] = (parameters.sort || DEFAULT_SORT).split(",");
  return h(
    "div",
    { class: "filters", role: "group", "aria-label": "Filter and sort the examples" },
    !isStructured(run) && [
      filter("target", "Given", [anyOption("any class"), ...classOptions(run)]),
      filter("prediction", "Prediction", [anyOption("any class"), ...classOptions(run)]),
    ],
    filter("correct", "The model", [
      anyOption("says anything"),
      h("option", { value: "true" }, "agrees"),
      h("option", { value: "false" }, "disagrees"),
    ]),
    bound("min_loss", "Loss from"),
    bound("max_loss", "Loss to"),
    offeredValues(rows, parameters).map(([name, values]) =>
      filter(ATTRIBUTE + name, name, [anyOption("any"), values.map((value) => h("option", { value }, value))])
    ),
    choice("sort-first", "Sort by", first, sortOptions(run), (key) => setSortKey(0, key)),
    choice("sort-then", "then by", second || "", [anyOption("–"), ...sortOptions(run)], (key) => setSortKey(1, key)),
  );
}

/**
 * Values of the attributes that are worth a filter: those with a few short values among the rows, and those that the
 * address filters by.
 *
 * @param {ExampleRow[]} rows
 * @param {Parameters} parameters
 * @returns {[name: string, values: string[]][]}
 */
function offeredValues(rows, parameters) {
  /** @type {Map<string, Set<string>>} */
  const values = new Map();
  const add = (/** @type {string} */ name, /** @type {string} */ value) =>
    values.set(name, (values.get(name) || new Set()).add(value));
  for (const row of rows) {
    for (const [name, value] of Object.entries(row.attributes)) if (value !== null) add(name, String(value));
  }
  const filtered = attributeFilters(parameters);
  for (const [name, value] of filtered) add(name, value);
  const names = filtered.map(([name]) => name);
  return [...values]
    .filter(([name, texts]) =>
      names.includes(name) ||
      (texts.size > 1 && texts.size <= MAX_VALUES && [...texts].every((text) => text.length <= MAX_VALUE_TEXT))
    )
    .map(([name, texts]) => [name, [...texts].sort()]);
}

/** @param {Run} run */
const sortOptions = (run) =>
  [...SORTS, ...(isStructured(run) ? ELEMENT_SORTS : CLASS_SORTS)].map(([value, text]) => h("option", { value }, text));
