// The results of a comparison: a summary, lists of examples, a chart of moves, and the classes.

import { chart, plain } from "../lib/charts.js";
import { colour } from "../lib/colours.js";
import { h, head, number, percent, sentence } from "../lib/dom.js";
import { toExample } from "../lib/route.js";
import { isStructured } from "../lib/units.js";
import { className } from "./labels.js";
import { tile } from "./layout.js";

/** @import { Child, ComparedExample, Comparison, Run } from "../types.d.ts" */
/** @typedef {"newly_hard" | "resolved" | "moves"} Kind */
/** @typedef {{ axis: string }} ChartSettings The axes of the chart: "rank" or "loss". */

const MIN_LOSS = 1e-12; // a logarithmic axis has no zero
/**
 * Kinds of examples in the chart: name, colour of the style sheet, symbol.
 *
 * @type {Record<Kind, [name: string, colour: string, symbol: string]>}
 */
const KINDS = {
  newly_hard: ["newly hard", "bad", "triangle-up"],
  resolved: ["resolved", "good", "triangle-down"],
  moves: ["moved", "accent", "circle"],
};

/**
 * @param {Run} run Gives the class names.
 * @param {Comparison} comparison With common examples.
 * @param {ChartSettings} settings The user can change them.
 * @param {AbortSignal} signal
 * @returns {(Node | string)[]}
 */
export function compareResults(run, comparison, settings, signal) {
  const { before, after, top } = comparison;
  return [
    h("p", { class: "compare-summary", role: "status" }, summary(comparison)),
    tiles(comparison),
    h(
      "div",
      { class: "pair" },
      exampleList(run, {
        title: "Newly hard",
        rows: comparison.newly_hard,
        count: comparison.num_newly_hard,
        linkRun: after.run,
        meaning: `Not among the ${number(top)} hardest before, among them after.`,
        none: "No example has become hard.",
      }),
      exampleList(run, {
        title: "Resolved",
        rows: comparison.resolved,
        count: comparison.num_resolved,
        linkRun: before.run,
        meaning: `Among the ${number(top)} hardest before, no longer after.`,
        none: "No example is resolved.",
      }),
    ),
    movesCard(run, comparison, settings, signal),
    comparison.classes.length ? classesCard(run, comparison) : null,
  ].filter((element) => element !== null);
}

/** @param {Comparison} comparison */
function summary({ num_newly_hard: hard, num_resolved: resolved, overlap }) {
  return sentence(
    `${number(hard)} ${hard === 1 ? "example has" : "examples have"} become hard, ` +
      `${number(resolved)} ${resolved === 1 ? "is" : "are"} resolved; ` +
      `${Math.round(100 * (overlap ?? 0))} % of the hardest are the same.`,
  );
}

/** @param {Comparison} comparison */
function tiles(comparison) {
  const { before, after, num_only_before: onlyBefore, num_only_after: onlyAfter } = comparison;
  const epochs = `epoch ${before.epoch}, then ${after.epoch}`;
  return h(
    "dl",
    { class: "tiles" },
    tile(
      "Examples in common",
      number(comparison.num_common),
      onlyBefore || onlyAfter ? `${number(onlyBefore)} only before, ${number(onlyAfter)} only after` : "all of both",
    ),
    tile(
      "Mean loss",
      arrow(number(comparison.mean_loss_before, 3), number(comparison.mean_loss_after, 3)),
      "of those in common, under the loss of the run before",
    ),
    tile(
      "Hardest that are the same",
      percent(comparison.overlap, 0),
      `of the ${number(comparison.top)} hardest of each`,
    ),
    tile("Rank correlation", number(comparison.rank_correlation, 3), "1: the same order; 0: none in common"),
    comparison.num_wrong_before === undefined
      ? tile(
        "Relabelled",
        number(comparison.num_relabelled),
        `${number(comparison.num_predicted_otherwise)} are predicted otherwise; ${epochs}`,
      )
      : tile("Wrong elements", arrow(number(comparison.num_wrong_before), number(comparison.num_wrong_after)), epochs),
  );
}

/**
 * A card with a table of examples.
 *
 * @param {Run} run
 * @param {object} list
 * @param {string} list.title
 * @param {ComparedExample[]} list.rows
 * @param {number} list.count Of all such examples; `rows` may be the first of them.
 * @param {string} list.linkRun The run that the examples link to, in which they are hard.
 * @param {string} list.meaning
 * @param {string} list.none The text if there are no rows.
 */
function exampleList(run, { title, rows, count, linkRun, meaning, none }) {
  const more = count > rows.length ? ` The first ${number(rows.length)} are listed.` : "";
  return h(
    "section",
    { class: "card", "aria-label": title },
    h("h2", {}, `${title} (${number(count)})`),
    h("p", { class: "muted" }, meaning, more),
    rows.length ? h("div", { class: "scroll" }, exampleTable(run, title, rows, linkRun)) : h("p", {}, none),
  );
}

/**
 * @param {Run} run
 * @param {string} title
 * @param {ComparedExample[]} rows
 * @param {string} linkRun
 */
function exampleTable(run, title, rows, linkRun) {
  const structured = isStructured(run);
  /** @type {(before: number | null, after: number | null) => Child} */
  const change = (before, after) =>
    before === after ? className(run, before) : arrow(className(run, before), className(run, after));
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, title),
    head("Example", structured ? ["Wrong elements"] : "Given", !structured && "Prediction", ["Loss"], ["Rank"]),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, h("a", { class: "wrap", href: toExample(linkRun, row.id) }, row.id)),
          structured
            ? h(
              "td",
              { class: "num", "data-label": "Wrong elements" },
              arrow(number(row.num_wrong_before), number(row.num_wrong_after)),
            )
            : [
              h("td", { "data-label": "Given" }, change(row.target_before, row.target_after)),
              h("td", { "data-label": "Prediction" }, change(row.prediction_before, row.prediction_after)),
            ],
          h(
            "td",
            { class: "num", "data-label": "Loss" },
            arrow(number(row.loss_before, 3), number(row.loss_after, 3)),
          ),
          h("td", { class: "num", "data-label": "Rank" }, arrow(number(row.rank_before), number(row.rank_after))),
        )
      ),
    ),
  );
}

/**
 * A chart of all listed examples, before against after. Examples below the diagonal have become easier.
 *
 * @param {Run} run
 * @param {Comparison} comparison
 * @param {ChartSettings} settings
 * @param {AbortSignal} signal
 */
function movesCard(run, comparison, settings, signal) {
  const { newly_hard, resolved, before, after } = comparison;
  const listed = new Set([...newly_hard, ...resolved].map((row) => row.id));
  const moves = comparison.moves.filter((row) => !listed.has(row.id));
  /** @type {Record<Kind, ComparedExample[]>} */
  const groups = { newly_hard, resolved, moves };
  if (!Object.values(groups).some((rows) => rows.length)) return null;
  const axis = h(
    "select",
    { id: "compare-axis" },
    h("option", { value: "rank" }, "Rank (1 is the hardest)"),
    h("option", { value: "loss" }, "Loss"),
  );
  axis.value = settings.axis;
  const description = `${number(comparison.num_newly_hard)} newly hard, ${number(comparison.num_resolved)} resolved ` +
    "and the largest moves of rank.";
  const figure = chart(null, description, () => movesPlot(groups, settings.axis), {
    height: 400,
    table: exampleTable(run, "Largest moves of rank", comparison.moves, after.run),
    signal,
    on: {
      plotly_click: ({ points: [point] }) => {
        const [kind, id] = point.customdata || [];
        if (kind) location.hash = toExample(kind === "resolved" ? before.run : after.run, id);
      },
    },
  });
  axis.addEventListener("change", () => {
    settings.axis = axis.value;
    figure.redraw();
  });
  return h(
    "section",
    { class: "card", "aria-label": "Moves" },
    h("h2", {}, "What has moved"),
    h(
      "p",
      { class: "muted" },
      "Before across, after upwards. Points on the line have not changed. Click a point to open its example.",
    ),
    h(
      "div",
      { class: "compare-tools" },
      h("div", {}, h("label", { for: "compare-axis" }, "Show"), axis),
      h(
        "ul",
        { class: "legend", "aria-label": "Colours" },
        kinds.map((kind) => {
          const [name, tone] = KINDS[kind];
          const dot = h("span", { class: `dot ${tone}`, "aria-hidden": "true" });
          return h("li", {}, dot, `${name} (${number(groups[kind].length)})`);
        }),
      ),
    ),
    figure,
  );
}

const kinds = /** @type {Kind[]} */ (Object.keys(KINDS));

/**
 * Plotly's data and layout of the moves.
 *
 * @param {Record<Kind, ComparedExample[]>} groups
 * @param {string} by "rank" or "loss"
 */
function movesPlot(groups, by) {
  const before = (/** @type {ComparedExample} */ row) =>
    by === "rank" ? row.rank_before : Math.max(row.loss_before ?? 0, MIN_LOSS);
  const after = (/** @type {ComparedExample} */ row) =>
    by === "rank" ? row.rank_after : Math.max(row.loss_after ?? 0, MIN_LOSS);
  const values = Object.values(groups).flat().flatMap((row) => [before(row), after(row)]);
  const ends = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const diagonal = {
    type: "scatter",
    mode: "lines",
    x: ends,
    y: ends,
    hoverinfo: "skip",
    line: { color: colour("muted"), width: 1, dash: "dot" },
  };
  const points = kinds.map((kind) => {
    const [, tone, symbol] = KINDS[kind];
    const rows = groups[kind];
    return {
      type: "scatter",
      mode: "markers",
      x: rows.map(before),
      y: rows.map(after),
      customdata: rows.map((row) => [kind, row.id]),
      hoverinfo: "text",
      text: rows.map((row) => `${plain(row.id)}: ${by} ${number(before(row), 3)} → ${number(after(row), 3)}`),
      marker: { color: colour(tone), symbol, size: 9, opacity: 0.8 },
    };
  });
  const scale = { type: "log", exponentformat: "none", nticks: 8 };
  return {
    data: [diagonal, ...points],
    layout: {
      xaxis: { ...scale, title: { text: `${by} before` } },
      yaxis: { ...scale, title: { text: `${by} after` } },
    },
  };
}

/**
 * @param {Run} run
 * @param {Comparison} comparison
 */
function classesCard(run, comparison) {
  return h(
    "section",
    { class: "card", "aria-label": "Classes" },
    h("h2", {}, "Classes"),
    h("p", { class: "muted" }, "By the label given after."),
    h(
      "table",
      { class: "stacked" },
      h("caption", { class: "hidden-text" }, "What changed, class by class"),
      head("Class", ["Examples"], ["Mean loss before"], ["Mean loss after"], ["Newly hard"], ["Resolved"]),
      h(
        "tbody",
        {},
        comparison.classes.map((row) => {
          /** @type {[string, number | null][]} */
          const cells = [
            ["Examples", row.count],
            ["Mean loss before", row.mean_loss_before],
            ["Mean loss after", row.mean_loss_after],
            ["Newly hard", row.num_newly_hard],
            ["Resolved", row.num_resolved],
          ];
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, className(run, row.class)),
            cells.map(([name, value]) => h("td", { class: "num", "data-label": name }, number(value, 3))),
          );
        }),
      ),
    ),
  );
}

/**
 * A change, with the word "then" for screen readers.
 *
 * @param {string} before
 * @param {string} after
 */
function arrow(before, after) {
  return h(
    "span",
    {},
    before,
    h("span", { class: "muted", "aria-hidden": "true" }, " → "),
    h("span", { class: "hidden-text" }, " then "),
    after,
  );
}
