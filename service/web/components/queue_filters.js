// The controls over the rows of a queue: what to show of them, and in which order.

import { h } from "../lib/dom.js";
import { classOptions } from "./parts.js";
import { SHOWN, SORTS } from "../lib/queue_query.js";

const VERDICTS = { open: "open", reviewed: "reviewed", ok: "kept", wrong: "wrong", unsure: "not sure" };
const TYPING_MS = 300;
const LONGEST_OPTION = 40;

/**
 * @param run As the API tells it.
 * @param facets Texts of each attribute that has few.
 * @param asked The QueueQuery, which the controls change.
 * @param changed Called with "filter" or "sort" after a change.
 * @param wide Whether there is room for all of it.
 */
export function filters(run, facets, asked, changed, wide) {
  const field = (id, label, control) => h("div", {}, h("label", { for: id }, label), control);
  const choice = (id, label, options, value, act) => {
    const select = h("select", { id, onchange: () => act(select.value) }, options);
    select.value = value;
    return field(id, label, select);
  };
  const all = (text) => h("option", { value: "" }, text);
  const filter = (name, label, options) =>
    choice(`filter-${name}`, label, options, asked.filters[name], (value) => {
      asked.filters[name] = value;
      changed("filter");
    });
  const attributes = Object.entries(offered(facets, asked.attributes)).map(([name, texts], place) =>
    choice(
      `attribute-${place}`,
      name || "(no name)",
      [all("any"), texts.map((text) => h("option", { value: text }, brief(text)))],
      asked.attributes[name] || "",
      (text) => {
        asked.attributes[name] = text;
        changed("filter");
      },
    )
  );
  const sorts = h("div", { class: "filters", role: "group", "aria-label": "Sort the rows" });
  const element = h(
    "details",
    { class: "narrow", open: wide || asked.narrows || asked.sort.length > 0 },
    h("summary", {}, "Filter and sort"),
    h(
      "div",
      { class: "filters", role: "group", "aria-label": "Filter the rows" },
      search(asked, changed, field),
      filter("given", "Given", [all("any class"), classOptions(run)]),
      filter("prediction", "Prediction", [all("any class"), classOptions(run)]),
      filter("suggested", "Suggested", [all("any class"), classOptions(run)]),
      filter("show", "Show", [all("all rows"), SHOWN.map((name) => h("option", { value: name }, VERDICTS[name]))]),
      attributes,
    ),
    sorts,
  );
  /** After the order was changed elsewhere. */
  element.refresh = () => {
    const keys = [asked.sort[0] || "rank", ...(asked.sort.length ? [asked.sort[1] || ""] : [])];
    const held = document.activeElement?.id;
    sorts.replaceChildren(
      ...keys.map((key, place) =>
        choice(
          `sort-${place}`,
          place ? "Then by" : "Sort by",
          [place > 0 && all("rank alone"), orders()],
          key,
          (value) => {
            asked.setSort(place ? [asked.sort[0], value, ...asked.sort.slice(2)] : [value, ...asked.sort.slice(1)]);
            changed("sort");
          },
        )
      ),
    );
    if (held?.startsWith("sort-")) document.getElementById(held)?.focus();
  };
  element.refresh();
  return element;
}

function search(asked, changed, field) {
  let timer;
  const input = h("input", {
    id: "filter-text",
    type: "search",
    placeholder: "id or text",
    autocomplete: "off",
    value: asked.filters.text,
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      asked.filters.text = input.value.trim();
      changed("filter");
    }, TYPING_MS);
  });
  return field("filter-text", "Search", input);
}

/** Attributes that tell examples apart without telling each apart; and those that the address asks for. */
function offered(facets, chosen) {
  const useful = Object.entries(facets).filter(([name, texts]) => texts.length > 1 && name !== "text");
  const found = Object.fromEntries(useful);
  for (const [name, text] of Object.entries(chosen)) {
    if (text && !found[name]?.includes(text)) found[name] = [...(found[name] || []), text];
  }
  return found;
}

const brief = (text) => (text.length > LONGEST_OPTION ? `${text.slice(0, LONGEST_OPTION)} …` : text);

function orders() {
  return Object.entries(SORTS).flatMap(([name, [word, descending]]) => {
    const both = [h("option", { value: name }, `${word} ↑`), h("option", { value: `-${name}` }, `${word} ↓`)];
    return descending ? both.reverse() : both;
  });
}
