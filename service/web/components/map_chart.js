// The chart of the data map.

import { chart, plain } from "../lib/charts.js";
import { colour } from "../lib/colours.js";
import { AMBIGUOUS_VARIABILITY, EASY_CONFIDENCE, HARD_CONFIDENCE, REGION_NAMES, REGIONS } from "../lib/data_map.js";
import { h, number } from "../lib/dom.js";
import { toExample } from "../lib/route.js";

/** @import { Dynamics } from "../types.d.ts" */
/** @import { Box, Point } from "../lib/data_map.js" */

/**
 * @param {object} options
 * @param {string} options.run
 * @param {Dynamics} options.page
 * @param {Point[]} options.points
 * @param {AbortSignal} options.signal
 * @param {(box: Box) => void} options.select Called with a box that the user has drawn.
 */
export function mapChart({ run, page, points, signal, select }) {
  const list = REGION_NAMES.map((name) => `${REGIONS[name].title} ${page.summary.regions[name]}`).join(", ");
  const description = `Data map of ${number(page.num_matching)} examples: ${list}`;
  return chart("", description, () => ({ data: [markers(points)], layout: layout() }), {
    height: 460,
    signal,
    on: {
      plotly_selected: (event) => {
        if (event?.range) select({ confidence: bounds(event.range.y), variability: bounds(event.range.x) });
      },
      plotly_click: (event) => {
        const [point] = event.points;
        if (point.customdata) location.hash = toExample(run, point.customdata);
      },
    },
  });
}

/**
 * The bounds of a drawn box.
 *
 * @param {number[]} ends In any order.
 * @returns {[number, number]}
 */
function bounds(ends) {
  const [least, largest] = ends.toSorted((a, b) => a - b).map((value) => Math.max(0, Number(value.toFixed(3))));
  return [least, largest];
}

/** @param {Point[]} points */
function markers(points) {
  const largest = Math.max(...points.map((point) => point.count), 1);
  const binned = points.some((point) => !point.id);
  return {
    type: "scatter",
    mode: "markers",
    x: points.map((point) => point.variability),
    y: points.map((point) => point.confidence),
    customdata: points.map((point) => point.id),
    text: points.map(({ id, count }) => id ? plain(id) : `${number(count)} ${count === 1 ? "example" : "examples"}`),
    marker: {
      color: points.map((point) => point.correctness),
      cmin: 0,
      cmax: 1,
      colorscale: [[0, colour("bad")], [0.5, colour("warn")], [1, colour("accent")]],
      opacity: 0.65,
      line: { width: 0 },
      symbol: binned ? "square" : "circle",
      size: binned ? points.map((point) => 3 + 9 * Math.sqrt(point.count / largest)) : 6,
    },
    selected: { marker: { opacity: 0.95 } },
    unselected: { marker: { opacity: 0.2 } },
    hovertemplate: "%{text}: confidence %{y:.2f}, variability %{x:.2f}<extra></extra>",
  };
}

function layout() {
  const line = { color: colour("line"), width: 1, dash: "dot" };
  const boundary = (/** @type {number[]} */ [x0, x1, y0, y1]) => ({ type: "line", x0, x1, y0, y1, line });
  const caption = (/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ text) => ({
    x,
    y,
    text,
    showarrow: false,
    xanchor: "right",
    font: { color: colour("text"), size: 13 },
    bgcolor: colour("surface"),
    opacity: 0.85,
  });
  return {
    dragmode: "select",
    selectionrevision: 1,
    margin: { l: 56, r: 16, t: 16, b: 48 },
    xaxis: { title: { text: "variability" }, range: [-0.01, 0.51], showgrid: false },
    yaxis: { title: { text: "confidence" }, range: [-0.03, 1.03], showgrid: false },
    shapes: [
      boundary([AMBIGUOUS_VARIABILITY, AMBIGUOUS_VARIABILITY, 0, 1]),
      boundary([0, AMBIGUOUS_VARIABILITY, EASY_CONFIDENCE, EASY_CONFIDENCE]),
      boundary([0, AMBIGUOUS_VARIABILITY, HARD_CONFIDENCE, HARD_CONFIDENCE]),
    ],
    annotations: [
      caption(AMBIGUOUS_VARIABILITY, 1, "easy"),
      caption(0.5, 0.5, "ambiguous"),
      caption(AMBIGUOUS_VARIABILITY, 0.03, "hard to learn"),
    ],
  };
}

/** The colours of the chart in words. */
export function mapLegend() {
  return h(
    "p",
    { class: "legend" },
    [["bad", "never right"], ["warn", "in half of the epochs"], ["accent", "always right"]].map(([name, text]) => {
      const dot = h("span", { class: "dot", "aria-hidden": "true" });
      dot.style.background = `var(--${name})`;
      return h("span", {}, dot, text);
    }),
  );
}
