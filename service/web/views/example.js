// One example: its content, verdicts, probabilities, scores and their course over the epochs.

import { unitCards } from "../components/elements/unit_cards.js";
import { exampleContent } from "../components/example_content.js";
import { scoreTable } from "../components/example_scores.js";
import { className, unitName, verdictText } from "../components/labels.js";
import { card, crumbs } from "../components/layout.js";
import { chart } from "../lib/charts.js";
import { colour } from "../lib/colours.js";
import { bar, h, head, number, percent, when } from "../lib/dom.js";
import { toQueue, toRun } from "../lib/route.js";
import { getExample, getRun } from "../lib/runs_api.js";
import { differenceText, isStructured } from "../lib/units.js";

/** @import { ExampleDetail, Review, Run, ScoredExample, View } from "../types.d.ts" */
const MAX_CLASSES = 15;

/** @param {View} view */
export async function exampleView({ parts, query, signal }) {
  const [, name, , id] = parts;
  const [run, example] = await Promise.all([getRun(name, signal), getExample(name, id, {}, signal)]);
  const queue = query.get("queue");
  /** @type {[string, string][]} */
  const toItsQueue = queue ? [[queue, toQueue(name, queue, query.get("row"))]] : [];
  const structured = isStructured(run);
  const { content, units } = structured ? unitCards(run, example) : classCards(run, example);
  return h(
    "section",
    {},
    crumbs(["Runs", "#/"], [name, toRun(name)], ...toItsQueue, [id]),
    h("h1", { class: "wrap" }, id),
    h(
      "p",
      { class: "lead" },
      structured ? `The model differs from ${differenceText(run, example)}.` : agreement(run, example),
    ),
    h(
      "div",
      { class: "columns even" },
      h("div", {}, content, card("Verdicts", verdicts(run, example.reviews))),
      h("div", {}, units, card("Over the epochs", course(run, example.course, signal))),
    ),
    card("Scores", scoreTable(run, example)),
  );
}

/**
 * @param {Run} run
 * @param {ExampleDetail} example
 */
function agreement(run, { target, prediction }) {
  return [
    "Given ",
    h("span", { class: "label given" }, className(run, target)),
    prediction === target
      ? "; the model agrees."
      : ["; the model says ", h("span", { class: "label suggested" }, className(run, prediction)), "."],
  ];
}

/**
 * @param {Run} run
 * @param {ExampleDetail} example
 */
const classCards = (run, example) => ({
  content: card("Example", exampleContent(example, { all: true })),
  units: card("What the model believes", probabilityList(run, example)),
});

/**
 * The classes by probability, the largest first.
 *
 * @param {Run} run
 * @param {ExampleDetail} example
 */
function probabilityList(run, { probabilities, target, prediction }) {
  if (!probabilities) {
    return h("p", { class: "muted" }, "The run stores no logits, so the probabilities of the classes are unknown.");
  }
  const order = probabilities.map((share, label) => ({ share, label })).sort((a, b) => b.share - a.share);
  const shown = order.filter(({ label }, place) => place < MAX_CLASSES || label === target);
  return [
    h(
      "ul",
      { class: "classes" },
      shown.map(({ share, label }) => {
        const kind = label === target ? "given" : label === prediction ? "suggested" : "";
        return h(
          "li",
          { class: kind },
          h(
            "span",
            { class: "class-name" },
            className(run, label),
            kind && h("small", { class: `mark ${kind}` }, kind),
          ),
          bar(share, kind),
          h("span", { class: "num" }, percent(share)),
        );
      }),
    ),
    order.length > shown.length &&
    h("p", { class: "muted" }, `and ${order.length - shown.length} classes with less`),
  ];
}

/**
 * The history of verdicts, the latest first.
 *
 * @param {Run} run
 * @param {Review[]} reviews
 */
function verdicts(run, reviews) {
  if (!reviews.length) return h("p", { class: "muted" }, "There is no verdict yet.");
  return h(
    "ol",
    { class: "history" },
    reviews.toReversed().map(({ verdict, label, unit, at, reviewer, queue, comment, adjudicated }) =>
      h(
        "li",
        {},
        h("strong", {}, verdict === null ? "Taken back" : verdictText(run, verdict, label, unit)),
        " ",
        unitName(run, unit),
        " ",
        h(
          "span",
          { class: "muted" },
          adjudicated && "settled ",
          when(at),
          reviewer && ` by ${reviewer}`,
          queue && ` in ${queue}`,
        ),
        comment && h("p", {}, comment),
      )
    ),
  );
}

/**
 * Charts and a table of the scores by epoch.
 *
 * @param {Run} run
 * @param {ScoredExample[]} rows
 * @param {AbortSignal} signal
 */
function course(run, rows, signal) {
  const structured = isStructured(run);
  const table = h(
    "details",
    {},
    h("summary", {}, "As a table"),
    h(
      "table",
      {},
      head("Epoch", structured ? "Differs" : "Prediction", ["p(label)"], ["Margin"], ["Loss"]),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(row.epoch)),
            h("td", {}, structured ? differenceText(run, row) : className(run, row.prediction)),
            [row.p_t, row.logit_margin, row.loss].map((value) => h("td", { class: "num" }, number(value, 3))),
          )
        ),
      ),
    ),
  );
  if (rows.length < 2) return [h("p", { class: "muted" }, "The run has only one epoch of this example."), table];
  return [
    epochChart(rows, "p_t", "p(label)", [0, 1.05], (value) => percent(value, 0), signal),
    rows.some((row) => row.logit_margin !== null) && epochChart(
      rows,
      "logit_margin",
      "Logit margin: below the line the model prefers another class",
      null,
      (value) => number(value, 2),
      signal,
    ),
    table,
  ];
}

/**
 * A score over the epochs, as a line.
 *
 * @param {ScoredExample[]} rows
 * @param {"p_t" | "logit_margin"} key
 * @param {string} title
 * @param {[number, number] | null} range Of the axis; null: the range of the values and zero.
 * @param {(value: number | null) => string} text
 * @param {AbortSignal} signal
 */
function epochChart(rows, key, title, range, text, signal) {
  const description = `${title}: ${rows.map((row) => `epoch ${row.epoch} ${text(row[key])}`).join(", ")}`;
  const draw = () => ({
    data: [{
      x: rows.map((row) => row.epoch),
      y: rows.map((row) => row[key]),
      mode: "lines+markers",
      line: { color: colour("accent"), width: 2 },
      marker: { color: colour("accent"), size: 5 },
      hovertemplate: rows.map((row) => `epoch ${row.epoch}: ${text(row[key])}<extra></extra>`),
    }],
    layout: {
      xaxis: { title: { text: "epoch" }, showgrid: false, tickformat: "d", tick0: 0, dtick: epochStep(rows) },
      yaxis: {
        rangemode: "tozero",
        zeroline: true,
        zerolinecolor: colour("muted"),
        ...(range && { range, tickformat: ".0%" }),
      },
    },
  });
  return chart(title, description, draw, { height: 190, signal });
}

/**
 * The distance of the ticks of an axis of epochs, so that at most nine fit.
 *
 * @param {ScoredExample[]} rows
 */
const epochStep = (rows) => Math.max(1, Math.ceil((rows[rows.length - 1].epoch - rows[0].epoch) / 8));
