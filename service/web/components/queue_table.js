// The table of a queue: its head, its rows, and the link to an example.

import { labels, shown, verdictBadge } from "./parts.js";
import { bar, h, number, sentence } from "../lib/dom.js";
import { toExample, toQueue } from "../lib/route.js";

/** The head of the table; `page.sorts` gets the buttons that sort. */
export function queueHead(page) {
  page.sorts = new Map();
  const by = (name, word) => {
    const button = h(
      "button",
      {
        type: "button",
        class: "sort",
        title: "Sort; with Shift, after what is sorted by already",
        onclick: (event) => {
          page.asked.sortBy(name, { further: event.shiftKey });
          page.reordered("sort");
        },
      },
      word,
      h("span", { class: "direction", "aria-hidden": "true" }),
    );
    page.sorts.set(name, button);
    return button;
  };
  const cell = (kind, ...content) => h("th", { scope: "col", class: kind }, content);
  return h(
    "thead",
    {},
    h(
      "tr",
      {},
      cell("num", by("rank", "#")),
      cell(null, by("id", "Example")),
      cell(null, by("target", "Given"), " → ", by("suggested", "suggested")),
      cell(null, "Why it is here"),
      cell(null, by("loss", "Loss")),
      cell(null, by("verdict", "Verdict")),
    ),
  );
}

/** A row of the table. */
export function queueRow(page, row) {
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("a:not(.rank), input, label")) return;
    event.preventDefault();
    page.select(row);
    if (!page.wide.matches) page.element.querySelector(".focus").scrollIntoView({ block: "start" });
  };
  const box = h("input", {
    type: "checkbox",
    "aria-label": `Select row ${row.rank}`,
    onchange: () => page.selection.set([row], box.checked),
  });
  box.checked = page.selection.has(row);
  return h(
    "tr",
    { onclick: open },
    h(
      "td",
      { class: "num pick" },
      box,
      h("a", {
        class: "rank",
        href: toQueue(page.run.run, page.queue.name, row.rank, page.asked.inAddress),
        "aria-label": `Row ${row.rank}`,
      }, String(row.rank)),
    ),
    h("th", { scope: "row", class: "brief" }, shown(row), exampleLink(page, row)),
    h("td", { "data-label": "Given → suggested" }, labels(page.run, row)),
    h("td", { class: "why" }, sentence(row.reason)),
    h(
      "td",
      { class: "loss", "data-label": "Loss" },
      h("span", { class: "progress" }, bar(row.loss / (page.largest || 1), "bad"), number(row.loss, 3)),
    ),
    h("td", { class: "end", "data-label": "Verdict" }, verdictBadge(page.run, row)),
  );
}

/** A link to the view of an example, which leads back to its row. */
export function exampleLink(page, row) {
  return h(
    "a",
    { class: "id", href: toExample(page.run.run, row.id, { queue: page.queue.name, row: row.rank }) },
    row.id,
  );
}

/** How many rows are shown and match, on the tabs, the page buttons and the head of the table. */
export function showCounts(page, visible) {
  const { matching, offset, asked } = page;
  const gone = page.rows.length - visible;
  page.back.disabled = offset === 0;
  page.forth.disabled = offset + page.rows.length >= matching;
  page.pages.hidden = page.back.disabled && page.forth.disabled;
  const span = visible ? `${number(offset + 1)}–${number(offset + visible)} of ${number(matching - gone)}` : "no";
  page.count.textContent = page.pages.hidden ? `${number(visible)} rows` : `Rows ${span}`;
  const words = {
    all: `All (${number(page.queue.num_rows)})`,
    filtered: `Filtered (${number(asked.tab === "filtered" ? matching - gone : page.narrowed)})`,
    selected: `Selected (${number(page.selection.size)})`,
  };
  for (const [tab, button] of Object.entries(page.tabs)) {
    button.textContent = words[tab];
    button.setAttribute("aria-pressed", String(asked.tab === tab));
  }
  for (const [name, button] of page.sorts) {
    const sorted = asked.tab === "selected" ? null : asked.sorted(name);
    button.disabled = asked.tab === "selected";
    button.lastChild.textContent = sorted
      ? `${sorted.descending ? "↓" : "↑"}${asked.sort.length > 1 ? ` ${sorted.place}` : ""}`
      : "";
    button.dataset.sorted = sorted ? (sorted.descending ? "descending" : "ascending") : "none";
  }
  for (const cell of new Set([...page.sorts.values()].map((button) => button.parentElement))) {
    const sorted = [...cell.querySelectorAll("button")].map((one) => one.dataset.sorted).find((one) => one !== "none");
    cell.setAttribute("aria-sort", sorted || "none");
  }
}
