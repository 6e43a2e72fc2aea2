// The charts of a run: histogram of the losses, their concentration on few examples, and calibration.

import { chart } from "../lib/charts.js";
import { colour } from "../lib/colours.js";
import { h, head, number, percent } from "../lib/dom.js";
import { toExamples } from "../lib/route.js";
import { getDiagnostics } from "../lib/runs_api.js";
import { isStructured } from "../lib/units.js";
import { card } from "./layout.js";

/** @import { Concentration, Diagnostics, Run } from "../types.d.ts" */
/** @typedef {{ count: number, least: number, largest: number }} LossBin */

const MAX_GAMMA = 5, GAMMA_STEP = 0.25;

/**
 * Histogram of the losses. A click on a bin lists its examples. Null without losses.
 *
 * @param {Run} run
 * @param {Diagnostics} diagnostics
 * @param {AbortSignal} signal
 */
export function histogramCard(run, diagnostics, signal) {
  const { edges, counts } = diagnostics.histogram;
  if (!counts.length) return null;
  const first = counts.findIndex((count) => count > 0);
  const bins = counts.map((count, place) => ({ count, least: edges[place], largest: edges[place + 1] })).slice(first);
  /** @type {(bin: LossBin) => string} */
  const toBin = (bin) => toExamples(run.run, { min_loss: bin.least, max_loss: bin.largest, epoch: diagnostics.epoch });
  /** @type {(bin: LossBin) => string} */
  const text = (bin) => `${number(bin.least, 2)} to ${number(bin.largest, 2)}`;
  const filled = bins.filter((bin) => bin.count);
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
      `Most examples have a small loss, a few a large one. The largest loss is ${number(diagnostics.loss.max, 3)}, ` +
        `the median ${
          number(diagnostics.loss.median, 3)
        }. Click a bar to see its examples; both scales are logarithmic.`,
    ),
    chart("", `Histogram of the loss: ${filled.map((bin) => `${text(bin)}: ${bin.count}`).join("; ")}`, draw, {
      signal,
      on: {
        plotly_click: (event) => {
          location.hash = toBin(bins[event.points[0].x]);
        },
      },
      table: h(
        "table",
        {},
        head("Loss", ["Examples"]),
        h(
          "tbody",
          {},
          filled.toReversed().map((bin) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, h("a", { href: toBin(bin) }, text(bin))),
              h("td", { class: "num" }, number(bin.count)),
            )
          ),
        ),
      ),
    }),
  );
}

/**
 * Ticks at every fourth edge, which are a decade apart.
 *
 * @param {LossBin[]} bins
 */
function ticks(bins) {
  const marked = bins.map((bin, place) => [place - 0.5, bin.least]).filter((_, place) =>
    (bins.length - 1 - place) % 4 === 3
  );
  return { tickangle: 0, tickvals: marked.map(([place]) => place), ticktext: marked.map(([, least]) => edge(least)) };
}

/**
 * A short text of an edge.
 *
 * @param {number} value
 */
function edge(value) {
  if (value === 0 || value >= 0.01) return number(value, 1);
  return value.toExponential(0);
}

/**
 * The Lorenz curve of the losses, with a slider for gamma. Null without losses.
 *
 * @param {Run} run
 * @param {Diagnostics} diagnostics
 * @param {AbortSignal} signal
 */
export function concentrationCard(run, diagnostics, signal) {
  if (!diagnostics.concentration.lorenz) return null;
  /** @type {Concentration} */
  let concentration = diagnostics.concentration;
  const words = h("p", { class: "muted", "aria-live": "polite" });
  const rows = h("tbody", {});
  const slider = h("input", {
    type: "range",
    id: "gamma",
    min: 0,
    max: MAX_GAMMA,
    step: GAMMA_STEP,
    value: diagnostics.gamma,
  });
  const shown = h("output", { for: "gamma", class: "num" });
  const curve = () => concentration.lorenz || [];
  const draw = () => ({
    data: [
      { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("line"), dash: "dot" }, hoverinfo: "skip" },
      {
        x: curve().map(([examples]) => examples),
        y: curve().map(([, loss]) => loss),
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
  const atZero = diagnostics.concentration_at_gamma_0;
  const refresh = (/** @type {number} */ gamma) => {
    const { top_1_percent, top_5_percent, top_10_percent } = concentration;
    shown.textContent = `γ = ${number(gamma)}`;
    words.textContent =
      `With γ = ${number(gamma)} the hardest 1 % of the examples hold ${percent(top_1_percent, 0)} of the loss, ` +
      `the hardest 10 % hold ${percent(top_10_percent, 0)} ` +
      `(with γ = 0: ${percent(atZero.top_1_percent, 0)} and ${percent(atZero.top_10_percent, 0)}).`;
    const row = (/** @type {number} */ part, /** @type {number | null} */ share) =>
      h("tr", {}, h("th", { scope: "row" }, percent(part, 0)), h("td", { class: "num" }, percent(share)));
    rows.replaceChildren(row(0.01, top_1_percent), row(0.05, top_5_percent), row(0.1, top_10_percent));
  };
  let loading = new AbortController();
  slider.addEventListener("input", async () => {
    loading.abort();
    loading = new AbortController();
    const gamma = Number(slider.value);
    shown.textContent = `γ = ${number(gamma)}`;
    const reply = await getDiagnostics(
      run.run,
      { fields: "concentration", epoch: diagnostics.epoch, gamma },
      AbortSignal.any([loading.signal, signal]),
    ).catch(() => null);
    if (!reply?.concentration.lorenz || Number(slider.value) !== gamma) return;
    concentration = reply.concentration;
    refresh(gamma);
    figure.redraw();
  });
  refresh(diagnostics.gamma);
  return card(
    "How few examples hold the loss",
    words,
    figure,
    h("div", { class: "slider" }, h("label", { for: "gamma" }, "What if γ were"), slider, shown),
    h("p", { class: "muted" }, orderText(run)),
  );
}

/**
 * The effect of gamma on the order of the examples.
 *
 * @param {Run} run
 */
function orderText(run) {
  if (isStructured(run)) {
    return "γ changes the order too: with a large γ one very wrong element outweighs many doubtful ones.";
  }
  const within = run.config.alpha ? "Within a class the" : "The";
  return `${within} order of the examples stays the same: γ changes how much the hard ones count, not which ones are hard.`;
}

/**
 * The model's confidence against its accuracy. Null if the run has no calibration.
 *
 * @param {Diagnostics} diagnostics
 * @param {AbortSignal} signal
 */
export function calibrationCard({ calibration }, signal) {
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
  const points = bins.map((bin) => `says ${percent(bin.confidence, 0)}, right ${percent(bin.accuracy, 0)}`);
  const off = Number(calibration.confidence) - Number(calibration.accuracy);
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
      `On average the model says ${percent(calibration.confidence)} and is right ${percent(calibration.accuracy)} ` +
        `of the time, by the given labels. ${verdict} Points below the dotted line: too sure. ` +
        `Calibration error (ECE) ${number(calibration.ece, 2)}, ` +
        `fitted temperature ${number(calibration.temperature, 3)}.`,
    ),
    chart(
      "",
      `Calibration: ${points.join("; ")}`,
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
