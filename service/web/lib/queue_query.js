// The filters, order and tab of a queue's view, read from the address and written to the address and the API.

import { classText } from "./class_text.js";

/** @import { NamedClasses, ReviewedRow } from "../types.d.ts" */
/** @typedef {keyof typeof FILTERS} Filter */

/** Names of the filters in the address, with their names in the API. */
const FILTERS = { given: "target", prediction: "prediction", suggested: "suggested", show: "verdict", text: "text" };
/** Values of the filter `show`. */
export const SHOW_VALUES = ["open", "reviewed", "conflict", "ok", "wrong", "unsure", "exclude"];
const ATTRIBUTE = "attribute.";
export const TABS = ["all", "filtered", "selected"];

/**
 * Sort keys: label, and true if the first click sorts in descending order.
 *
 * @type {Record<string, [label: string, descending: boolean]>}
 */
export const SORTS = {
  rank: ["Rank", false],
  id: ["Id", false],
  target: ["Given", false],
  prediction: ["Prediction", false],
  suggested: ["Suggested", false],
  loss: ["Loss", true],
  p_t: ["p(label)", false],
  logit_margin: ["Margin", false],
  entropy: ["Entropy", true],
  verdict: ["Verdict", false],
};

export class QueueQuery {
  /**
   * Ignores unknown filters, sort keys and tabs.
   *
   * @param {URLSearchParams} query The query of the address.
   * @param {NamedClasses} [run] The API takes its classes by name.
   */
  constructor(query, run = { class_names: null }) {
    this.run = run;
    /** @type {Record<Filter, string>} */
    this.filters = { given: "", prediction: "", suggested: "", show: "", text: "" };
    for (const name of filterNames) this.filters[name] = validFilter(name, query.get(name) || "");
    /** @type {Record<string, string>} */
    this.attributes = Object.fromEntries(
      [...query].filter(([name]) => name.startsWith(ATTRIBUTE))
        .map(([name, text]) => [name.slice(ATTRIBUTE.length), text]),
    );
    /** @type {string[]} */
    this.sort = [];
    this.setSort((query.get("sort") || "").split(",").filter((key) => columnOf(key) in SORTS));
    const tab = query.get("tab");
    this.tab = tab !== null && TABS.includes(tab) ? tab : this.defaultTab;
  }

  /** True if any filter is set. */
  get hasFilters() {
    return Object.values({ ...this.filters, ...this.attributes }).some(Boolean);
  }

  get defaultTab() {
    return this.hasFilters ? "filtered" : "all";
  }

  /**
   * The query of the address, without defaults.
   *
   * @returns {Record<string, string>}
   */
  get addressQuery() {
    return {
      ...this.filters,
      ...this.#attributeFilters(),
      sort: this.sort.join(","),
      tab: this.tab === this.defaultTab ? "" : this.tab,
    };
  }

  /**
   * The query of the API. `more` are further parameters.
   *
   * @param {{ filtered?: boolean, [name: string]: unknown }} options `filtered` is true to apply the filters; by default
   *   only the tab "filtered" does.
   */
  apiQuery({ filtered = this.tab === "filtered", ...more } = {}) {
    const filters = filtered ? filterNames.map((name) => [FILTERS[name], this.#filterText(name)]) : [];
    const attributes = filtered ? Object.entries(this.#attributeFilters()) : [];
    const parameters = [...filters, ...attributes, ["sort", this.sort.join(",")], ...Object.entries(more)]
      .filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return new URLSearchParams(/** @type {string[][]} */ (parameters)).toString();
  }

  /** @param {Filter} name */
  #filterText(name) {
    const text = this.filters[name];
    return text && name !== "text" && name !== "show" ? classText(this.run, text) : text;
  }

  #attributeFilters() {
    return Object.fromEntries(
      Object.entries(this.attributes).filter(([, text]) => text).map(([name, text]) => [ATTRIBUTE + name, text]),
    );
  }

  /**
   * Sort by a column. A second call reverses its order.
   *
   * @param {string} name
   * @param {{ further?: boolean }} options `further` is true to add the column after the present sort keys.
   */
  sortBy(name, { further = false } = {}) {
    const keys = this.#sortKeys();
    const place = keys.findIndex((key) => columnOf(key) === name);
    const key = place >= 0 && (further || keys.length === 1) ? reversed(keys[place]) : defaultKey(name);
    if (!further || !this.sort.length) this.setSort([key]);
    else if (place < 0) this.sort.push(key);
    else this.sort[place] = key;
  }

  /**
   * Set the sort keys. Empty and repeated keys are left out, and so is the rank alone, which is the default order.
   *
   * @param {string[]} keys
   */
  setSort(keys) {
    this.sort = keys.filter((key, place) =>
      key && keys.findIndex((other) => columnOf(other) === columnOf(key)) === place
    );
    if (this.sort[0] === "rank") this.sort = [];
  }

  #sortKeys() {
    return this.sort.length ? this.sort : ["rank"];
  }

  /**
   * The place of a column among the sort keys, from 1, and its direction. Null if the rows are not sorted by it.
   *
   * @param {string} name
   */
  sorted(name) {
    const keys = this.#sortKeys();
    const place = keys.findIndex((key) => columnOf(key) === name);
    return place < 0 ? null : { place: place + 1, descending: keys[place].startsWith("-") };
  }

  /**
   * True if a row of the page still matches the filters. Only its verdict can have changed.
   *
   * @param {Pick<ReviewedRow, "verdict">} row
   */
  matches(row) {
    const { show } = this.filters;
    if (this.tab !== "filtered" || !show) return true;
    return show === "open" ? row.verdict === null : show === "reviewed" ? row.verdict !== null : row.verdict === show;
  }
}

const filterNames = /** @type {Filter[]} */ (Object.keys(FILTERS));

/**
 * The value of a filter; empty if it is neither a class nor one of `SHOW_VALUES`.
 *
 * @param {Filter} name
 * @param {string} value
 */
function validFilter(name, value) {
  if (name === "text" || (name === "show" ? SHOW_VALUES.includes(value) : /^\d{1,9}$/.test(value))) return value;
  return "";
}

/** @param {string} key */
const columnOf = (key) => key.replace(/^-/, "");

/** @param {string} name */
const defaultKey = (name) => (SORTS[name][1] ? `-${name}` : name);

/** @param {string} key */
const reversed = (key) => (key.startsWith("-") ? key.slice(1) : `-${key}`);
