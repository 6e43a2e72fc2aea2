// One example with everything: probabilities, scores and what they mean, its course, what was said of it.

import { get, path } from "../lib/api.js";
import { chart, colour } from "../lib/charts.js";
import { bar, h, head, number, percent, when } from "../lib/dom.js";
import { className, crumbs, shown, verdictText } from "../components/parts.js";
import { toQueue, toRun } from "../lib/route.js";

const MOST_CLASSES = 15;

// Each with its value in words; `true` says that a large value is what speaks against the label.
const SCORES = [
  [
    "loss",
    "Focal loss",
    (value, one) => `What it adds to the loss: ${times(value, one)} its plain cross-entropy.`,
    true,
  ],
  ["cross_entropy", "Cross-entropy", () => "The loss before focusing: minus the logarithm of p(label).", true],
  ["p_t", "p(label)", (value) => `The model gives the label ${percent(value)}.`, false],
  [
    "log_odds",
    "Log odds",
    (
      value,
    ) => (value < 0
      ? "All other classes together win against the label."
      : "The label wins against all other classes together."),
    false,
  ],
  [
    "logit_margin",
    "Logit margin",
    (value) => (value < 0 ? "The best other class is ahead of the label." : "The label is ahead of every other class."),
    false,
  ],
  [
    "normalized_margin",
    "Normalised margin",
    (value) =>
      `The label against the best other class: ${value < 0.5 ? "behind" : "ahead"}, on a scale where 0.5 is a draw.`,
    false,
  ],
  ["entropy", "Entropy", (value, one) => `The model is ${decided(value, one)}, whatever the label.`, true],
  [
    "el2n",
    "EL2N",
    (value) =>
      `Its probabilities lie ${
        value > 1 ? "far from" : value > 0.5 ? "off" : "close to"
      } the label, on a scale from 0 to 1.41.`,
    true,
  ],
];

function times(loss, { cross_entropy: plain }) {
  return plain > 0 ? `${number(loss / plain, 3)} times` : "nothing of";
}

function decided(entropy, { probabilities }) {
  const share = probabilities ? entropy / Math.log(probabilities.length) : entropy;
  return share > 0.66 ? "undecided" : share > 0.33 ? "in some doubt" : "decided";
}

export async function exampleView({ parts, query, signal }) {
  const [, name, , id] = parts;
  const [run, one] = await Promise.all([
    get(path("runs", name), signal),
    get(path("runs", name, "examples", id), signal),
  ]);
  const queue = query.get("queue");
  const suggested = one.prediction === one.target ? null : one.prediction;
  return h(
    "section",
    {},
    crumbs(["Runs", "#/"], [name, toRun(name)], ...(queue ? [[queue, toQueue(name, queue, query.get("row"))]] : []), [
      id,
    ]),
    h("h1", { class: "wrap" }, id),
    h(
      "p",
      { class: "lead" },
      "Given ",
      h("span", { class: "label given" }, className(run, one.target)),
      suggested === null
        ? "; the model agrees."
        : ["; the model says ", h("span", { class: "label suggested" }, className(run, suggested)), "."],
    ),
    h(
      "div",
      { class: "columns even" },
      h("div", {}, card("Example", shown(one, { rest: true })), card("Verdicts", verdicts(run, one.reviews))),
      h(
        "div",
        {},
        card("What the model believes", probabilities(run, one)),
        card("Over the epochs", course(run, one.course, signal)),
      ),
    ),
    card("Scores", scores(one)),
  );
}

function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

function probabilities(run, one) {
  if (!one.probabilities) {
    return h("p", { class: "muted" }, "The run keeps no logits, so the classes' probabilities are not known.");
  }
  const order = one.probabilities.map((share, label) => ({ share, label })).sort((a, b) => b.share - a.share);
  const kept = order.filter(({ label }, place) => place < MOST_CLASSES || label === one.target);
  return [
    h(
      "ul",
      { class: "classes" },
      kept.map(({ share, label }) => {
        const kind = label === one.target ? "given" : label === one.prediction ? "suggested" : "";
        const mark = { given: "given", suggested: "suggested" }[kind];
        return h(
          "li",
          { class: kind },
          h(
            "span",
            { class: "class-name" },
            className(run, label),
            mark && h("small", { class: `mark ${kind}` }, mark),
          ),
          bar(share, kind),
          h("span", { class: "num" }, percent(share)),
        );
      }),
    ),
    order.length > kept.length && h("p", { class: "muted" }, `and ${order.length - kept.length} classes with less`),
  ];
}

function scores(one) {
  return h(
    "table",
    { class: "stacked" },
    h("caption", { class: "hidden-text" }, `Scores in epoch ${one.epoch}`),
    head("Score", ["Value"], "Among all of the epoch", "In words"),
    h(
      "tbody",
      {},
      SCORES.filter(([key]) => key in one).map(([key, title, meaning, high]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, title),
          h("td", { class: "num", "data-label": "Value" }, number(one[key])),
          h("td", { "data-label": "Among all" }, place(one.percentiles[key], high)),
          h("td", { class: "muted" }, meaning(one[key], one)),
        )
      ),
    ),
  );
}

function place(percentile, high) {
  if (percentile === null || percentile === undefined) return "–";
  const above = `higher than ${percentile.toFixed(1)} %`;
  return h(
    "span",
    { class: "progress" },
    bar(percentile / 100, (high ? percentile > 95 : percentile < 5) ? "bad" : ""),
    above,
  );
}

function verdicts(run, reviews) {
  if (!reviews.length) return h("p", { class: "muted" }, "Nobody has said anything of it yet.");
  return h(
    "ol",
    { class: "history" },
    [...reviews].reverse().map((one) =>
      h(
        "li",
        {},
        h("strong", {}, one.verdict === null ? "Taken back" : verdictText(run, one.verdict, one.label)),
        " ",
        h(
          "span",
          { class: "muted" },
          when(one.at),
          one.reviewer && ` by ${one.reviewer}`,
          one.queue && ` in ${one.queue}`,
        ),
        one.comment && h("p", {}, one.comment),
      )
    ),
  );
}

function course(run, rows, signal) {
  const table = h(
    "details",
    {},
    h("summary", {}, "As a table"),
    h(
      "table",
      {},
      head("Epoch", "Prediction", ["p(label)"], ["Margin"], ["Loss"]),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, String(row.epoch)),
            h("td", {}, className(run, row.prediction)),
            ["p_t", "logit_margin", "loss"].map((key) => h("td", { class: "num" }, number(row[key], 3))),
          )
        ),
      ),
    ),
  );
  if (rows.length < 2) return [h("p", { class: "muted" }, "The run has one epoch of it so far."), table];
  return [
    line(rows, "p_t", "p(label)", [0, 1.05], (value) => percent(value, 0), signal),
    line(
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

/** A line over the epochs; `range` null: as far as the values go, zero included. */
function line(rows, key, title, range, text, signal) {
  const named = `${title}: ${rows.map((row) => `epoch ${row.epoch} ${text(row[key])}`).join(", ")}`;
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
      xaxis: { title: { text: "epoch" }, showgrid: false, tickformat: "d", nticks: Math.min(rows.length + 1, 9) },
      yaxis: {
        rangemode: "tozero",
        zeroline: true,
        zerolinecolor: colour("muted"),
        ...(range && { range, tickformat: ".0%" }),
      },
    },
  });
  return chart(title, named, draw, { height: 190, signal });
}
