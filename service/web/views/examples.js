// The examples of an epoch, filtered and sorted by the service, page by page; and a queue of what the filter leaves.

import { get, path } from "../lib/api.js";
import { bar, h, head, number, percent, problem } from "../lib/dom.js";
import { openQueue } from "../components/made_queue.js";
import { classOptions, labels, runHead, shown, STRATEGIES, verdictBadge } from "../components/parts.js";
import { address, here, toExample } from "../lib/route.js";

const AT_ONCE = 100;
const MOST_ROWS = 100_000;
const SORTS = [
  ["-loss", "largest loss"],
  ["loss", "smallest loss"],
  ["logit_margin", "smallest margin"],
  ["p_t", "smallest p(label)"],
  ["-entropy", "most undecided"],
  ["-el2n", "largest EL2N"],
  ["target", "given class"],
  ["prediction", "prediction"],
  ["id", "id"],
];
// What the address may say and the service understands.
const FILTERS = ["target", "prediction", "correct", "min_loss", "max_loss"];

export async function examplesView({ parts, query, signal, refused }) {
  const name = parts[1];
  const asked = Object.fromEntries(
    [...query].filter(([key]) => [...FILTERS, "sort", "epoch"].includes(key) || key.startsWith("attribute.")),
  );
  const page = (cursor) =>
    get(`${path("runs", name, "examples")}?${new URLSearchParams({ ...asked, limit: AT_ONCE, ...cursor })}`, signal);
  const [run, first] = await Promise.all([get(path("runs", name), signal), page({})]);
  const told = h("div", {});
  const body = h("tbody", {});
  const more = h("button", { type: "button" }, "Load more");
  let largest = 0, next = null;
  const add = (found) => {
    largest ||= Math.max(...found.rows.map((row) => row.loss), 0);
    body.append(...found.rows.map((row) => exampleRow(run, row, largest)));
    next = found.next_cursor;
    more.hidden = !next;
  };
  add(first);
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      // A cursor belongs to one epoch: another may have come meanwhile.
      add(await page({ epoch: first.epoch, cursor: next }));
    } catch (error) {
      if (!refused(error)) told.replaceChildren(problem(error));
    }
    more.disabled = false;
  });
  return h(
    "section",
    {},
    runHead(name, "examples"),
    h(
      "p",
      { class: "lead", role: "status" },
      `${number(first.num_matching)} of ${number(run.num_examples)} examples of epoch ${first.epoch}.`,
    ),
    told,
    filters(run, asked, first.rows),
    first.num_matching > 0 && queueOfThese(run, asked, first, told, refused),
    h(
      "div",
      { class: "card table-card" },
      h(
        "table",
        { class: "stacked" },
        h("caption", { class: "hidden-text" }, "Examples"),
        head("Example", "Given → the model says", "Loss", ["p(label)"], ["Margin"], "Verdict"),
        body,
      ),
    ),
    more,
  );
}

function exampleRow(run, row, largest) {
  const suggested = row.prediction === row.target ? null : row.prediction;
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row", class: "brief" },
      shown(row),
      h("a", { class: "id", href: toExample(run.run, row.id) }, row.id),
    ),
    h("td", { "data-label": "Given → the model says" }, labels(run, { ...row, suggested })),
    h(
      "td",
      { class: "loss", "data-label": "Loss" },
      h("span", { class: "progress" }, bar(row.loss / (largest || 1), "bad"), number(row.loss, 3)),
    ),
    h("td", { class: "num", "data-label": "p(label)" }, percent(row.p_t)),
    h("td", { class: "num", "data-label": "Margin" }, number(row.logit_margin, 3)),
    h("td", { "data-label": "Verdict" }, verdictBadge(run, row)),
  );
}

/** A form whose every change is another address. */
function filters(run, asked, rows) {
  // From the address of now: the next choice may come before this one is answered.
  const go = (changed) => {
    location.hash = address(["runs", run.run, "examples"], { ...Object.fromEntries(here().query), ...changed });
  };
  const choice = (key, label, options) => {
    const select = h("select", { id: `filter-${key}`, onchange: () => go({ [key]: select.value }) }, options);
    select.value = asked[key] ?? "";
    return h("div", {}, h("label", { for: `filter-${key}` }, label), select);
  };
  const bound = (key, label) =>
    h(
      "div",
      {},
      h("label", { for: `filter-${key}` }, label),
      h("input", {
        id: `filter-${key}`,
        type: "number",
        min: 0,
        step: "any",
        value: asked[key] ?? "",
        onchange: (event) => go({ [key]: event.target.value }),
      }),
    );
  /** The sort of the address with another first or second key. */
  const sorted = (first, second) => {
    const [one, two = ""] = (here().query.get("sort") || "-loss").split(",");
    return [first ?? one, second ?? two].filter(Boolean).join(",");
  };
  const any = (text) => h("option", { value: "" }, text);
  const [by, then] = (asked.sort || "-loss").split(",");
  const sorts = (id, label, value, options, change) => {
    const select = h("select", { id, onchange: () => change(select.value) }, options);
    select.value = value;
    return h("div", {}, h("label", { for: id }, label), select);
  };
  const orders = () => SORTS.map(([key, text]) => h("option", { value: key }, text));
  return h(
    "div",
    { class: "filters", role: "group", "aria-label": "Filter and sort the examples" },
    choice("target", "Given", [any("any class"), ...classOptions(run)]),
    choice("prediction", "Prediction", [any("any class"), ...classOptions(run)]),
    choice("correct", "The model", [
      any("says anything"),
      h("option", { value: "true" }, "agrees"),
      h("option", { value: "false" }, "disagrees"),
    ]),
    bound("min_loss", "Loss from"),
    bound("max_loss", "Loss to"),
    attributeFilters(asked, rows, go),
    sorts("sort-first", "Sort by", by, orders(), (value) => go({ sort: sorted(value, null) })),
    sorts("sort-then", "then by", then || "", [any("–"), ...orders()], (value) => go({ sort: sorted(null, value) })),
  );
}

const FEW = 20, SHORT = 40;

/** A choice for each attribute with few short values among the examples at hand, and for each that is filtered by. */
function attributeFilters(asked, rows, go) {
  const values = new Map();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row.attributes)) {
      if (value !== null) values.set(name, (values.get(name) || new Set()).add(String(value)));
    }
  }
  for (const [key, value] of Object.entries(asked)) {
    if (key.startsWith("attribute.")) values.set(key.slice(10), (values.get(key.slice(10)) || new Set()).add(value));
  }
  const few = [...values].filter(([name, found]) =>
    `attribute.${name}` in asked ||
    (found.size > 1 && found.size <= FEW && [...found].every((value) => value.length <= SHORT))
  );
  return few.map(([name, found]) => {
    const key = `attribute.${name}`;
    const select = h(
      "select",
      { id: `filter-${key}`, onchange: () => go({ [key]: select.value }) },
      h("option", { value: "" }, "any"),
      [...found].sort().map((value) => h("option", { value }, value)),
    );
    select.value = asked[key] ?? "";
    return h("div", {}, h("label", { for: `filter-${key}` }, name), select);
  });
}

function queueOfThese(run, asked, { num_matching: matching, epoch }, told, refused) {
  const strategy = h(
    "select",
    { id: "these-strategy" },
    ["logit_margin", "top_loss", "self_confidence", "ambiguous", "random"].map((key) =>
      h("option", { value: key }, STRATEGIES[key][0])
    ),
  );
  const budget = h("input", {
    id: "these-budget",
    type: "number",
    min: 1,
    max: MOST_ROWS,
    required: true,
    value: Math.min(matching, 50),
  });
  return h(
    "form",
    {
      class: "inline",
      onsubmit: (event) => {
        event.preventDefault();
        openQueue(
          run.run,
          { strategy: strategy.value, budget: Number(budget.value), epoch, only: onlyOf(asked) },
          told,
          refused,
        );
      },
    },
    h("label", { for: "these-budget" }, "Review"),
    budget,
    h("label", { for: "these-strategy" }, "of these by"),
    strategy,
    h("button", { class: "primary", type: "submit" }, "Make queue"),
  );
}

/** The filter of the address as a queue takes it. */
function onlyOf(asked) {
  const only = {};
  for (const key of ["target", "prediction"]) if (key in asked) only[key] = Number(asked[key]);
  if ("correct" in asked) only.correct = asked.correct === "true";
  const bound = (key) => (key in asked ? Number(asked[key]) : null);
  if ("min_loss" in asked || "max_loss" in asked) only.ranges = { loss: [bound("min_loss"), bound("max_loss")] };
  const attributes = Object.entries(asked).filter(([key]) => key.startsWith("attribute."));
  if (attributes.length) only.attributes = Object.fromEntries(attributes.map(([key, value]) => [key.slice(10), value]));
  return Object.keys(only).length ? only : null;
}
