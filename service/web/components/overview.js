// The charts of a run: how the losses lie, how few examples hold them, and whether the model's probabilities can be believed.

import { get, path } from "../lib/api.js";
import { chart, colour } from "../lib/charts.js";
import { h, head, number, percent } from "../lib/dom.js";
import { toExamples } from "../lib/route.js";

const MOST_GAMMA = 5, GAMMA_STEP = 0.25;

function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

/** Losses in bins; each leads to its examples. */
export function histogramCard(run, found, signal) {
  const { edges, counts } = found.histogram;
  if (!counts.length) return null;
  const first = counts.findIndex((count) => count > 0);
  const bins = counts.map((count, place) => ({ count, least: edges[place], largest: edges[place + 1] })).slice(first);
  const where = (bin) => toExamples(run.run, { min_loss: bin.least, max_loss: bin.largest, epoch: found.epoch });
  const text = (bin) => `${number(bin.least, 2)} to ${number(bin.largest, 2)}`;
  const few = bins.filter((bin) => bin.count);
  const draw = () => ({
    data: [{
      type: "bar",
      x: bins.map((_, place) => place),
      y: bins.map((bin) => bin.count || null),
      marker: { color: colour("accent") },
      hovertemplate: bins.map((bin) =>
        `loss ${text(bin)}: ${number(bin.count)} ${
          bin.count === 1 ? "example" : "examples"
        }; click to look<extra></extra>`
      ),
    }],
    layout: {
      xaxis: { title: { text: "focal loss" }, showgrid: false, ...ticks(bins) },
      yaxis: {
        title: { text: "examples", standoff: 6 },
        type: "log",
        dtick: 1,
        range: [-0.4, Math.log10(Math.max(...counts)) + 0.15],
      },
    },
  });
  return card(
    "Losses",
    h(
      "p",
      { class: "muted" },
      `Most examples cost little, a few cost much. The largest loss is ${number(found.loss.max, 3)}, ` +
        `the median ${number(found.loss.median, 3)}. Click a bar to see its examples; both scales are logarithmic.`,
    ),
    chart("", `Histogram of the loss: ${few.map((bin) => `${text(bin)}: ${bin.count}`).join("; ")}`, draw, {
      signal,
      on: {
        plotly_click: (event) => {
          location.hash = where(bins[event.points[0].x]);
        },
      },
      table: h(
        "table",
        {},
        head("Loss", ["Examples"]),
        h(
          "tbody",
          {},
          few.reverse().map((bin) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, h("a", { href: where(bin) }, text(bin))),
              h("td", { class: "num" }, number(bin.count)),
            )
          ),
        ),
      ),
    }),
  );
}

/** Names at every fourth edge: a decade apart. */
function ticks(bins) {
  const marked = bins.map((bin, place) => [place - 0.5, bin.least]).filter((_, place) =>
    (bins.length - 1 - place) % 4 === 3
  );
  return { tickangle: 0, tickvals: marked.map(([place]) => place), ticktext: marked.map(([, least]) => edge(least)) };
}

/** An edge in few letters. */
function edge(value) {
  if (value === 0 || value >= 0.01) return number(value, 1);
  return value.toExponential(0);
}

/** The Lorenz curve, under any gamma. */
export function concentrationCard(run, found, signal) {
  if (!found.concentration.lorenz) return null;
  let now = found.concentration;
  const words = h("p", { class: "muted", "aria-live": "polite" });
  const rows = h("tbody", {});
  const slider = h("input", {
    type: "range",
    id: "gamma",
    min: 0,
    max: MOST_GAMMA,
    step: GAMMA_STEP,
    value: found.gamma,
  });
  const shown = h("output", { for: "gamma", class: "num" });
  const draw = () => ({
    data: [
      { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("line"), dash: "dot" }, hoverinfo: "skip" },
      {
        x: now.lorenz.map(([examples]) => examples),
        y: now.lorenz.map(([, loss]) => loss),
        mode: "lines",
        fill: "tozeroy",
        line: { color: colour("accent"), width: 2.5 },
        fillcolor: colour("accent-soft"),
        hovertemplate: "the easiest %{x:.0%} hold %{y:.1%} of the loss<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: { text: "examples, the easiest first" }, tickformat: ".0%", range: [0, 1], showgrid: false },
      yaxis: { title: { text: "share of the loss", standoff: 6 }, tickformat: ".0%", range: [0, 1.01] },
    },
  });
  const figure = chart("", "Lorenz curve of the loss; the sentence above it has its numbers", draw, {
    signal,
    table: h("table", {}, head("Hardest", ["Share of the loss"]), rows),
  });
  const tell = (gamma) => {
    shown.textContent = `γ = ${number(gamma)}`;
    words.textContent =
      `With γ = ${number(gamma)} the hardest 1 % of the examples hold ${percent(now.top_1_percent, 0)} of the loss, ` +
      `the hardest 10 % hold ${percent(now.top_10_percent, 0)} (with γ = 0: ${
        percent(found.concentration_at_gamma_0.top_1_percent, 0)
      } ` +
      `and ${percent(found.concentration_at_gamma_0.top_10_percent, 0)}).`;
    rows.replaceChildren(
      ...[1, 5, 10].map((part) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, percent(part / 100, 0)),
          h("td", { class: "num" }, percent(now[`top_${part}_percent`])),
        )
      ),
    );
  };
  let asked = new AbortController();
  slider.addEventListener("input", async () => {
    asked.abort();
    asked = new AbortController();
    const gamma = Number(slider.value);
    shown.textContent = `γ = ${number(gamma)}`;
    const answer = await get(
      `${path("runs", run.run, "diagnostics")}?fields=concentration&epoch=${found.epoch}&gamma=${gamma}`,
      AbortSignal.any([asked.signal, signal]),
    ).catch(() => null);
    if (!answer?.concentration.lorenz || Number(slider.value) !== gamma) return;
    now = answer.concentration;
    tell(gamma);
    figure.redraw();
  });
  tell(found.gamma);
  const order = run.config.alpha
    ? "Within a class the order of the examples stays the same"
    : "The order of the examples stays the same";
  return card(
    "How few examples hold the loss",
    words,
    figure,
    h("div", { class: "slider" }, h("label", { for: "gamma" }, "What if γ were"), slider, shown),
    h("p", { class: "muted" }, `${order}: γ changes how much the hard ones count, not which ones are hard.`),
  );
}

/** What the model says of its own certainty, and how often it is right. */
export function calibrationCard(found, signal) {
  const calibration = found.calibration;
  if (!calibration) return null;
  const bins = calibration.bins.filter((bin) => bin.count);
  const largest = Math.max(...bins.map((bin) => bin.count));
  const draw = () => ({
    data: [
      { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("line"), dash: "dot" }, hoverinfo: "skip" },
      {
        x: bins.map((bin) => bin.confidence),
        y: bins.map((bin) => bin.accuracy),
        mode: "lines+markers",
        line: { color: colour("accent"), width: 1.5 },
        marker: {
          color: colour("accent"),
          size: bins.map((bin) => 6 + 14 * Math.sqrt(bin.count / largest)),
          opacity: 0.85,
        },
        customdata: bins.map((bin) => bin.count),
        hovertemplate: "says %{x:.0%}, is right %{y:.0%} of the time (%{customdata} examples)<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: { text: "what the model says" }, tickformat: ".0%", range: [0, 1.04], showgrid: false },
      yaxis: { title: { text: "how often it is right", standoff: 6 }, tickformat: ".0%", range: [0, 1.06] },
    },
  });
  const off = calibration.confidence - calibration.accuracy;
  const verdict = Math.abs(off) < 0.01
    ? "That fits."
    : off > 0
    ? "It is too sure of itself."
    : "It is less sure than it could be.";
  return card(
    "Can its certainty be believed?",
    h(
      "p",
      { class: "muted" },
      `On average the model says ${percent(calibration.confidence)} and is right ${
        percent(calibration.accuracy)
      } of the time, by the ` +
        `given labels. ${verdict} Points below the dotted line: too sure. Calibration error (ECE) ${
          number(calibration.ece, 2)
        }, ` +
        `fitted temperature ${number(calibration.temperature, 3)}.`,
    ),
    chart(
      "",
      `Calibration: ${
        bins.map((bin) => `says ${percent(bin.confidence, 0)}, right ${percent(bin.accuracy, 0)}`).join("; ")
      }`,
      draw,
      {
        signal,
        table: h(
          "table",
          {},
          head(["It says"], ["It is right"], ["Examples"]),
          h(
            "tbody",
            {},
            bins.map((bin) =>
              h(
                "tr",
                {},
                h("td", { class: "num" }, percent(bin.confidence)),
                h("td", { class: "num" }, percent(bin.accuracy)),
                h("td", { class: "num" }, number(bin.count)),
              )
            ),
          ),
        ),
      },
    ),
  );
}
