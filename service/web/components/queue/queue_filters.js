// The controls that filter and sort the rows of a queue.

import { h } from "../../lib/dom.js";
import { SHOW_VALUES, SORTS } from "../../lib/queue_query.js";
import { anyOption, choice, field } from "../form_inputs.js";
import { classOptions } from "../labels.js";

/** @import { Child, Classes } from "../../types.d.ts" */
/** @import { Filter, QueueQuery } from "../../lib/queue_query.js" */
/** @typedef {(change: "filter" | "sort") => void} Changed */

/** @type {Record<string, string>} */
const VERDICTS = {
  open: "open",
  reviewed: "reviewed",
  conflict: "in conflict",
  ok: "kept",
  wrong: "wrong",
  unsure: "not sure",
  exclude: "excluded",
};
const TYPING_MS = 300;
const MAX_OPTION_TEXT = 40;

/**
 * Filters and sort keys of a queue. `refresh` shows the sort keys of the query again after another control changed them.
 *
 * @param {Classes} run
 * @param {Record<string, string[]>} facets The values of each attribute that has few values.
 * @param {QueueQuery} query The controls change it.
 * @param {Changed} changed Called after each change.
 * @param {boolean} open True to unfold the controls.
 */
export function queueFilters(run, facets, query, changed, open) {
  /** @type {(name: Filter, label: string, options: Child) => HTMLElement} */
  const filter = (name, label, options) =>
    choice(`filter-${name}`, label, query.filters[name], options, (value) => {
      query.filters[name] = value;
      changed("filter");
    });
  const attributes = Object.entries(offeredValues(facets, query.attributes)).map(([name, values], place) =>
    choice(
      `attribute-${place}`,
      name || "(no name)",
      query.attributes[name] || "",
      [anyOption("any"), values.map((value) => h("option", { value }, shortened(value)))],
      (value) => {
        query.attributes[name] = value;
        changed("filter");
      },
    )
  );
  const sorts = h("div", { class: "filters", role: "group", "aria-label": "Sort the rows" });
  const element = h(
    "details",
    { class: "narrow", open: open || query.hasFilters || query.sort.length > 0 },
    h("summary", {}, "Filter and sort"),
    h(
      "div",
      { class: "filters", role: "group", "aria-label": "Filter the rows" },
      searchField(query, changed),
      filter("given", "Given", rowClassOptions(run)),
      filter("prediction", "Prediction", rowClassOptions(run)),
      filter("suggested", "Suggested", rowClassOptions(run)),
      filter("show", "Show", [
        anyOption("all rows"),
        SHOW_VALUES.map((value) => h("option", { value }, VERDICTS[value])),
      ]),
      attributes,
    ),
    sorts,
  );
  const refresh = () => {
    const focused = document.activeElement?.id;
    sorts.replaceChildren(...sortFields(query, changed));
    if (focused?.startsWith("sort-")) document.getElementById(focused)?.focus();
  };
  refresh();
  return Object.assign(element, { refresh });
}

/**
 * The classes of rows. A label of a multi-label run is absent or present.
 *
 * @param {Classes} run
 */
const rowClassOptions = (run) => [
  anyOption(run.task === "multi_label" ? "any" : "any class"),
  run.task === "multi_label"
    ? ["absent", "present"].map((text, value) => h("option", { value }, text))
    : classOptions(run),
];

/**
 * A choice for the first sort key, and one for the second if there is a first.
 *
 * @param {QueueQuery} query
 * @param {Changed} changed
 */
function sortFields(query, changed) {
  const keys = [query.sort[0] || "rank", ...(query.sort.length ? [query.sort[1] || ""] : [])];
  return keys.map((key, place) =>
    choice(
      `sort-${place}`,
      place ? "Then by" : "Sort by",
      key,
      [place > 0 && anyOption("rank alone"), sortOptions()],
      (value) => {
        query.setSort(place ? [query.sort[0], value, ...query.sort.slice(2)] : [value, ...query.sort.slice(1)]);
        changed("sort");
      },
    )
  );
}

/**
 * @param {QueueQuery} query
 * @param {Changed} changed
 */
function searchField(query, changed) {
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const input = h("input", {
    id: "filter-text",
    type: "search",
    placeholder: "id or text",
    autocomplete: "off",
    value: query.filters.text,
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      query.filters.text = input.value.trim();
      changed("filter");
    }, TYPING_MS);
  });
  return field("filter-text", "Search", input);
}

/**
 * Values of the attributes that are worth a filter: those with several values, and those that the address filters by.
 *
 * @param {Record<string, string[]>} facets
 * @param {Record<string, string>} chosen
 */
function offeredValues(facets, chosen) {
  const useful = Object.entries(facets).filter(([name, values]) => values.length > 1 && name !== "text");
  const offered = Object.fromEntries(useful);
  for (const [name, value] of Object.entries(chosen)) {
    if (value && !offered[name]?.includes(value)) offered[name] = [...(offered[name] || []), value];
  }
  return offered;
}

/** @param {string} text */
const shortened = (text) => (text.length > MAX_OPTION_TEXT ? `${text.slice(0, MAX_OPTION_TEXT)} …` : text);

function sortOptions() {
  return Object.entries(SORTS).flatMap(([name, [label, descending]]) => {
    const both = [h("option", { value: name }, `${label} ↑`), h("option", { value: `-${name}` }, `${label} ↓`)];
    return descending ? both.reverse() : both;
  });
}
