// What the address of a queue says of its rows: filters, order, tab; and the same for the API.

/** Where a filter stands in the address, and in the API. */
const FILTERS = { given: "target", prediction: "prediction", suggested: "suggested", show: "verdict", text: "text" };
export const SHOWN = ["open", "reviewed", "ok", "wrong", "unsure"];
const ATTRIBUTE = "attribute.";
export const TABS = ["all", "filtered", "selected"];

/** By what rows can be sorted: the word for it, and whether its large values come first at first. */
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
  constructor(query) {
    this.filters = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, meant(name, query.get(name) || "")]));
    this.attributes = Object.fromEntries(
      [...query].filter(([name]) => name.startsWith(ATTRIBUTE))
        .map(([name, text]) => [name.slice(ATTRIBUTE.length), text]),
    );
    this.setSort((query.get("sort") || "").split(",").filter((key) => bare(key) in SORTS));
    this.tab = TABS.includes(query.get("tab")) ? query.get("tab") : this.usualTab;
  }

  get narrows() {
    return Object.values({ ...this.filters, ...this.attributes }).some(Boolean);
  }

  get usualTab() {
    return this.narrows ? "filtered" : "all";
  }

  /** For the address, where what is usual is left out. */
  get inAddress() {
    return {
      ...this.filters,
      ...this.#attributes(),
      sort: this.sort.join(","),
      tab: this.tab === this.usualTab ? "" : this.tab,
    };
  }

  /** For the API; a tab that shows all ignores the filters. */
  inApi({ filtered = this.tab === "filtered", ...more } = {}) {
    const named = filtered ? Object.entries(this.filters).map(([name, value]) => [FILTERS[name], value]) : [];
    const attributes = filtered ? Object.entries(this.#attributes()) : [];
    const kept = [...named, ...attributes, ["sort", this.sort.join(",")], ...Object.entries(more)]
      .filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return new URLSearchParams(kept).toString();
  }

  #attributes() {
    return Object.fromEntries(
      Object.entries(this.attributes).filter(([, text]) => text)
        .map(([name, text]) => [ATTRIBUTE + name, text]),
    );
  }

  /** Sort by a column alone, or by it after the others; once more turns it round. */
  sortBy(name, { further = false } = {}) {
    const keys = this.sort.length ? this.sort : ["rank"];
    const place = keys.findIndex((key) => bare(key) === name);
    const key = place >= 0 && (further || keys.length === 1) ? turned(keys[place]) : first(name);
    if (!further || !this.sort.length) this.setSort([key]);
    else if (place < 0) this.sort.push(key);
    else this.sort[place] = key;
  }

  /** By these keys, each once; the rank is what the order ends with anyway. */
  setSort(keys) {
    this.sort = keys.filter((key, place) => key && keys.findIndex((one) => bare(one) === bare(key)) === place);
    if (this.sort[0] === "rank") this.sort = [];
  }

  /** The place of a column among the keys from 1, and whether it descends; null where it is none of them. */
  sorted(name) {
    const keys = this.sort.length ? this.sort : ["rank"];
    const place = keys.findIndex((key) => bare(key) === name);
    return place < 0 ? null : { place: place + 1, descending: keys[place].startsWith("-") };
  }

  /** Whether a row still fits after its verdict has changed; the rest of it does not change. */
  fits(row) {
    const { show } = this.filters;
    if (this.tab !== "filtered" || !show) return true;
    return show === "open" ? row.verdict === null : show === "reviewed" ? row.verdict !== null : row.verdict === show;
  }
}

/** What is no class and no verdict filters nothing. */
function meant(name, value) {
  if (name === "text" || (name === "show" ? SHOWN.includes(value) : /^\d{1,9}$/.test(value))) return value;
  return "";
}

const bare = (key) => key.replace(/^-/, "");
const first = (name) => (SORTS[name][1] ? `-${name}` : name);
const turned = (key) => (key.startsWith("-") ? key.slice(1) : `-${key}`);
