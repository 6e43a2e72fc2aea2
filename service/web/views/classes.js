// The classes of a run: what each costs, how much its labels can be trusted, and which are taken for which.

import { get, path } from "../lib/api.js";
import { bar, h, number, percent } from "../lib/dom.js";
import { openQueue, queueName } from "../components/made_queue.js";
import { className, runHead } from "../components/parts.js";
import { address, toExamples } from "../lib/route.js";

const MOST_SHOWN = 20;
const MOST_ROWS = 100_000;

// Key, heading, whether it is a figure, and its cell.
const COLUMNS = [
  ["name", "Class", false],
  ["count", "Examples", true],
  ["mean_loss", "Mean loss", true],
  ["loss_share", "Share of the loss", true],
  ["recall", "Recall", true],
  ["label_noise", "Wrong labels", true],
  ["inverse_label_noise", "Missed here", true],
  ["often_truly", "Often truly", false],
];
const MEANINGS = {
  label_noise: "Share of the examples labelled so that are probably of another class",
  inverse_label_noise: "Share of the examples of this class that are probably labelled otherwise",
  often_truly: "What its wrong labels are most often, by the model",
};

export async function classesView({ parts, query, signal, refused }) {
  const name = parts[1];
  const run = await get(path("runs", name), signal);
  if (!run.num_examples) {
    return h("section", {}, runHead(name, "classes"), h("p", { class: "card muted" }, "The run has no examples yet."));
  }
  const found = await get(`${path("runs", name, "diagnostics")}?fields=classes,confusion`, signal);
  const told = h("div", {});
  return h(
    "section",
    {},
    runHead(name, "classes"),
    h("p", { class: "lead" }, `Epoch ${found.epoch}. A class with many wrong labels is worth a queue of its own.`),
    told,
    h("div", { class: "card table-card" }, classTable(run, found, query)),
    h("section", { class: "card" }, h("h2", {}, "Which is taken for which"), matrix(run, found, told, refused)),
  );
}

function classTable(run, found, query) {
  const shown = COLUMNS.filter(([key]) => key in found.classes[0]);
  const sort = query.get("sort") || "-loss_share";
  const key = sort.replace(/^-/, "");
  const direction = sort.startsWith("-") ? -1 : 1;
  const label = (row) => className(run, row.class);
  const value = (
    row,
  ) => (key === "name" ? label(row) : key === "often_truly" ? className(run, row.often_truly) : row[key]);
  const rows = [...found.classes].sort((a, b) => direction * compared(value(a), value(b)) || a.class - b.class);
  const largest = Math.max(...rows.map((row) => row.loss_share || 0));
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, "Classes; the heads of the columns sort them"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        shown.map(([column, text, figure]) => {
          const current = column === key;
          const next = address(["runs", run.run, "classes"], {
            sort: current && direction < 0 ? column : `-${column}`,
          });
          return h(
            "th",
            {
              scope: "col",
              class: figure && "num",
              title: MEANINGS[column],
              "aria-sort": current ? (direction < 0 ? "descending" : "ascending") : null,
            },
            h(
              "a",
              { href: next, class: "sort" },
              text,
              current && h("span", { "aria-hidden": "true" }, direction < 0 ? " ↓" : " ↑"),
            ),
          );
        }),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h(
          "tr",
          {},
          shown.map(([column, text, figure]) => {
            if (column === "name") {
              return h(
                "th",
                { scope: "row" },
                h("a", { href: toExamples(run.run, { target: row.class, epoch: found.epoch }) }, label(row)),
              );
            }
            return h("td", { class: figure && "num", "data-label": text }, cell(run, row, column, largest));
          }),
        )
      ),
    ),
  );
}

function compared(a, b) {
  if (typeof a === "string" || typeof b === "string") {
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  return (a ?? -Infinity) - (b ?? -Infinity);
}

function cell(run, row, column, largest) {
  const value = row[column];
  if (column === "count") return number(value);
  if (column === "mean_loss") return number(value, 3);
  if (column === "often_truly") return className(run, value);
  if (column === "loss_share") {
    return h(
      "span",
      { class: "progress" },
      bar(value / (largest || 1), "bad"),
      h("span", { class: "share" }, percent(value, 0)),
    );
  }
  return percent(value);
}

/** Given against predicted; a cell off the diagonal opens its examples as a queue. */
function matrix(run, found, told, refused) {
  const full = found.confusion.matrix;
  const pairs = found.confusion.largest;
  if (!pairs.length) return h("p", { class: "muted" }, "The model agrees with every label.");
  const counts = new Map(pairs.map((one) => [`${one.target}/${one.prediction}`, one.count]));
  const classes = run.num_classes <= MOST_SHOWN
    ? Array.from({ length: run.num_classes }, (_, label) => label)
    : [...new Set(pairs.flatMap((one) => [one.target, one.prediction]))].slice(0, MOST_SHOWN).sort((a, b) => a - b);
  const of = (target, prediction) => full?.[target]?.[prediction] ?? counts.get(`${target}/${prediction}`) ?? 0;
  const most = Math.max(...pairs.map((one) => one.count));
  return [
    h(
      "p",
      { class: "muted" },
      "Rows are the given labels, columns what the model says. A number opens a queue of those examples, the " +
        `most suspicious first.${
          classes.length < run.num_classes ? ` Shown are the ${classes.length} classes that are mixed up most.` : ""
        }`,
    ),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Given against predicted" },
      h(
        "table",
        { class: "matrix" },
        h("caption", { class: "hidden-text" }, "Examples by given and predicted class"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, h("span", { class: "hidden-text" }, "Given")),
            classes.map((label) => h("th", { scope: "col" }, className(run, label))),
          ),
        ),
        h(
          "tbody",
          {},
          classes.map((target) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, className(run, target)),
              classes.map((prediction) => h("td", {}, content(target, prediction))),
            )
          ),
        ),
      ),
    ),
  ];

  function content(target, prediction) {
    const count = of(target, prediction);
    if (target === prediction) return h("span", { class: "muted" }, full ? number(count) : "");
    if (!count) return h("span", { class: "none", "aria-hidden": "true" }, "·");
    const button = h("button", {
      type: "button",
      class: "cell",
      "aria-label": `${count} given ${className(run, target)}, predicted ${className(run, prediction)}: review them`,
      onclick: () =>
        openQueue(
          run.run,
          {
            name: queueName(className(run, target), "taken-for", className(run, prediction), "epoch", found.epoch),
            strategy: "logit_margin",
            budget: Math.min(count, MOST_ROWS),
            epoch: found.epoch,
            only: { target, prediction },
          },
          told,
          refused,
        ),
    }, number(count));
    button.style.setProperty("--share", `${Math.round(15 + 70 * Math.sqrt(count / most))}%`);
    return button;
  }
}
