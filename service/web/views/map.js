// The data map (Swayamdipta et al. 2020): how sure the model was of each label over the epochs, and how steadily.

import { get, path } from "../lib/api.js";
import { chart, colour, plain } from "../lib/charts.js";
import { h, head, number, percent } from "../lib/dom.js";
import { openQueue } from "../components/made_queue.js";
import { runHead } from "../components/parts.js";
import { address, toExample } from "../lib/route.js";

const MOST_POINTS = 20_000, BINS = 60, MOST_ROWS = 100_000;
// The service's regions: variability splits off the ambiguous, confidence the others.
const AMBIGUOUS = 0.2, EASY = 0.75, HARD = 0.25;
const REGIONS = {
  hard_to_learn: ["Hard to learn", "Never sure, and never in doubt about it: many of these labels are wrong.", {
    confidence: [null, HARD],
    variability: [null, AMBIGUOUS],
  }],
  ambiguous: ["Ambiguous", "The model changes its mind: worth a second look, and useful for training.", {
    confidence: [null, null],
    variability: [AMBIGUOUS, null],
  }],
  easy: ["Easy", "Right and sure from early on.", { confidence: [EASY, null], variability: [null, AMBIGUOUS] }],
};
const SIDES = [["confidence", 0, "Confidence from"], ["confidence", 1, "to"], ["variability", 0, "Variability from"], [
  "variability",
  1,
  "to",
]];

export async function mapView({ parts, query, signal, refused }) {
  const name = parts[1];
  const run = await get(path("runs", name), signal);
  if (run.epochs.length < 2) {
    return h(
      "section",
      {},
      runHead(name, "map"),
      h(
        "p",
        { class: "card muted" },
        "The map shows how examples were learned, so it needs at least two epochs. " +
          `This run has ${run.epochs.length ? "one" : "none yet"}.`,
      ),
    );
  }
  const first = query.get("first") || "";
  const asked = (more) =>
    get(`${path("runs", name, "dynamics")}?${new URLSearchParams({ ...(first && { first }), ...more })}`, signal);
  const few = run.num_examples <= MOST_POINTS;
  const found = await asked(few ? { limit: MOST_POINTS, sort: "id" } : { limit: 0, bins: BINS });
  return new DataMap(run, found, { first, signal, refused }).element;
}

class DataMap {
  constructor(run, found, { first, signal, refused }) {
    Object.assign(this, { run, found, first, refused });
    this.points = found.map ||
      found.rows.map((row) => ({ ...row, count: 1, correctness: row.correctness / row.epochs }));
    this.told = h("div", {});
    this.inputs = SIDES.map(([axis, side, label]) => [
      axis,
      side,
      h("input", {
        type: "number",
        id: `${axis}-${side}`,
        min: 0,
        max: 1,
        step: "any",
        placeholder: side ? "any" : "0",
        "aria-label": `${axis} ${side ? "to" : "from"}`,
        oninput: () => this.count(),
      }),
      label,
    ]);
    this.counted = h("p", { class: "count", role: "status" });
    this.budget = h("input", { type: "number", id: "map-budget", min: 1, max: MOST_ROWS, value: 50, required: true });
    this.make = h("button", { class: "primary", type: "submit" }, "Make queue");
    this.figure = chart(
      "",
      `Data map of ${number(found.num_matching)} examples: ${
        Object.entries(REGIONS).map(([key, [text]]) => `${text} ${found.summary.regions[key]}`).join(", ")
      }`,
      () => this.draw(),
      {
        height: 460,
        signal,
        on: {
          plotly_selected: (event) => this.boxed(event),
          plotly_click: (event) => {
            if (!found.map) location.hash = toExample(run.run, event.points[0].customdata);
          },
        },
      },
    );
    this.#build();
    this.count();
  }

  #build() {
    const { run, found, first } = this;
    const epochs = h("input", {
      type: "number",
      id: "first",
      min: 1,
      max: run.epochs.length,
      value: first,
      placeholder: String(run.epochs.length),
      onchange: () => {
        location.hash = address(["runs", run.run, "map"], { first: epochs.value });
      },
    });
    this.element = h(
      "section",
      {},
      runHead(run.run, "map"),
      h(
        "p",
        { class: "lead" },
        `Each ${found.map ? "square" : "dot"} is ${
          found.map ? "a group of examples, as large as it is many" : "an example"
        }: ` +
          "further up the model was surer of its label, further right it changed its mind. Red was never right, blue always. " +
          "Draw a box to make a queue of what is in it.",
      ),
      h(
        "div",
        { class: "review" },
        h(
          "section",
          { class: "card side", "aria-label": "A queue of a part of the map" },
          this.told,
          h("h2", {}, "A queue of a part"),
          Object.entries(REGIONS).map(([key, [text, meaning, ranges]]) =>
            h(
              "button",
              {
                type: "button",
                class: "region",
                onclick: () => this.set(ranges),
              },
              h("strong", {}, `${text}: ${number(found.summary.regions[key])}`),
              h("small", {}, meaning),
            )
          ),
          h(
            "form",
            {
              onsubmit: (event) => {
                event.preventDefault();
                this.queue();
              },
            },
            h(
              "div",
              { class: "bounds" },
              this.inputs.map(([axis, side, input, label]) => [h("label", { for: `${axis}-${side}` }, label), input]),
            ),
            this.counted,
            h("label", { for: "map-budget" }, "How many examples"),
            this.budget,
            this.make,
          ),
        ),
        h(
          "section",
          { class: "card" },
          h(
            "div",
            { class: "inline" },
            h("label", { for: "first" }, "Only the first epochs"),
            epochs,
            h(
              "span",
              { class: "muted" },
              `of ${run.epochs.length}. A model that learns by heart is sure of wrong labels later.`,
            ),
          ),
          this.figure,
          legend(),
          h(
            "details",
            {},
            h("summary", {}, "As a table"),
            h(
              "table",
              {},
              head("Region", ["Examples"], ["Share"]),
              h(
                "tbody",
                {},
                Object.entries({ ...REGIONS, between: ["Between"] }).map(([key, [text]]) =>
                  h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, text),
                    h("td", { class: "num" }, number(found.summary.regions[key])),
                    h("td", { class: "num" }, percent(found.summary.regions[key] / (found.summary.num_examples || 1))),
                  )
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }

  draw() {
    const { points, found } = this;
    const most = Math.max(...points.map((one) => one.count), 1);
    const [bad, middle, good] = [colour("bad"), colour("warn"), colour("accent")];
    const line = { color: colour("line"), width: 1, dash: "dot" };
    const named = (x, y, text) => ({
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
      data: [{
        type: "scatter",
        mode: "markers",
        x: points.map((one) => one.variability),
        y: points.map((one) => one.confidence),
        customdata: points.map((one) => one.id),
        text: points.map((
          one,
        ) => (found.map ? `${number(one.count)} ${one.count === 1 ? "example" : "examples"}` : plain(one.id))),
        marker: {
          color: points.map((one) => one.correctness),
          cmin: 0,
          cmax: 1,
          colorscale: [[0, bad], [0.5, middle], [1, good]],
          opacity: 0.65,
          line: { width: 0 },
          symbol: found.map ? "square" : "circle",
          size: found.map ? points.map((one) => 3 + 9 * Math.sqrt(one.count / most)) : 6,
        },
        selected: { marker: { opacity: 0.95 } },
        unselected: { marker: { opacity: 0.2 } },
        hovertemplate: "%{text}: confidence %{y:.2f}, variability %{x:.2f}<extra></extra>",
      }],
      layout: {
        dragmode: "select",
        selectionrevision: 1,
        margin: { l: 56, r: 16, t: 16, b: 48 },
        xaxis: { title: { text: "variability" }, range: [-0.01, 0.51], showgrid: false },
        yaxis: { title: { text: "confidence" }, range: [-0.03, 1.03], showgrid: false },
        shapes: [
          { type: "line", x0: AMBIGUOUS, x1: AMBIGUOUS, y0: 0, y1: 1, line },
          { type: "line", x0: 0, x1: AMBIGUOUS, y0: EASY, y1: EASY, line },
          { type: "line", x0: 0, x1: AMBIGUOUS, y0: HARD, y1: HARD, line },
        ],
        annotations: [
          named(AMBIGUOUS, 1, "easy"),
          named(0.5, 0.5, "ambiguous"),
          named(AMBIGUOUS, 0.03, "hard to learn"),
        ],
      },
    };
  }

  boxed(event) {
    if (!event?.range) return;
    const limits = (pair) => [...pair].sort((a, b) => a - b).map((value) => Math.max(0, Number(value.toFixed(3))));
    this.set({ confidence: limits(event.range.y), variability: limits(event.range.x) });
  }

  set(ranges) {
    for (const [axis, side, input] of this.inputs) input.value = ranges[axis][side] ?? "";
    this.count();
  }

  ranges() {
    const ranges = { confidence: [null, null], variability: [null, null] };
    for (const [axis, side, input] of this.inputs) if (input.value !== "") ranges[axis][side] = Number(input.value);
    return ranges;
  }

  count() {
    const ranges = this.ranges();
    const inside = this.points.filter((one) =>
      Object.entries(ranges).every(([axis, [least, largest]]) =>
        (least === null || one[axis] >= least) && (largest === null || one[axis] <= largest)
      )
    );
    const all = inside.reduce((sum, one) => sum + one.count, 0);
    const right = inside.reduce((sum, one) => sum + one.count * one.correctness, 0);
    this.make.disabled = all === 0;
    this.counted.textContent = all === 0
      ? "No example lies there."
      : `${this.found.map ? "About " : ""}${number(all)} examples, right in ${
        percent(right / all, 0)
      } of their epochs.`;
    if (all) this.budget.value = Math.min(all, 50);
  }

  queue() {
    const ranges = Object.fromEntries(
      Object.entries(this.ranges()).filter(([, pair]) => pair.some((bound) => bound !== null)),
    );
    const only = Object.keys(ranges).length ? { ranges } : null;
    openQueue(
      this.run.run,
      {
        strategy: "area_under_margin",
        budget: Number(this.budget.value),
        first: this.first ? Number(this.first) : null,
        only,
      },
      this.told,
      this.refused,
    );
  }
}

function legend() {
  return h(
    "p",
    { class: "legend" },
    ["bad", "warn", "accent"].map((name, place) => {
      const dot = h("span", { class: "dot", "aria-hidden": "true" });
      dot.style.background = `var(--${name})`;
      return h("span", {}, dot, ["never right", "in half of the epochs", "always right"][place]);
    }),
  );
}
