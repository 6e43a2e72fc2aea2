// The data map: the model's confidence in each label over the epochs, and the variability of this confidence.

import { runHead } from "../components/layout.js";
import { mapChart, mapLegend } from "../components/map_chart.js";
import { MAX_BUDGET, openQueue } from "../components/queue/open_queue.js";
import { countInside, mapPoints, REGION_NAMES, REGIONS } from "../lib/data_map.js";
import { h, head, number, percent } from "../lib/dom.js";
import { address } from "../lib/route.js";
import { getDynamics, getRun } from "../lib/runs_api.js";

/** @import { Dynamics, Range, Region, Run, View } from "../types.d.ts" */
/** @import { Box } from "../lib/data_map.js" */
/** @typedef {{ axis: keyof Box, side: 0 | 1, label: string }} Side A side of a box. */

/** Above this number of examples the service returns a binned map. */
const MAX_POINTS = 20_000;
const BINS = 60;
/** @type {Side[]} */
const SIDES = [
  { axis: "confidence", side: 0, label: "Confidence from" },
  { axis: "confidence", side: 1, label: "to" },
  { axis: "variability", side: 0, label: "Variability from" },
  { axis: "variability", side: 1, label: "to" },
];

/** @param {View} view */
export async function mapView(view) {
  const { parts, query, signal } = view;
  const name = parts[1];
  const run = await getRun(name, signal);
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
  const size = run.num_examples <= MAX_POINTS ? { limit: MAX_POINTS, sort: "id" } : { limit: 0, bins: BINS };
  const page = await getDynamics(name, { ...(first && { first }), ...size }, signal);
  return new DataMap(run, page, first, view).element;
}

class DataMap {
  /**
   * @param {Run} run
   * @param {Dynamics} page
   * @param {string} first Number of the first epochs that the map uses; empty for all.
   * @param {View} view
   */
  constructor(run, page, first, { signal, refused }) {
    this.run = run;
    this.page = page;
    this.first = first;
    this.refused = refused;
    this.points = mapPoints(page);
    this.notice = h("div", {});
    this.inputs = SIDES.map(({ axis, side, label }) => ({
      axis,
      side,
      label,
      input: h("input", {
        type: "number",
        id: `${axis}-${side}`,
        min: 0,
        max: 1,
        step: "any",
        placeholder: side ? "any" : "0",
        "aria-label": `${axis} ${side ? "to" : "from"}`,
        oninput: () => this.count(),
      }),
    }));
    this.counted = h("p", { class: "count", role: "status" });
    this.budget = h("input", { type: "number", id: "map-budget", min: 1, max: MAX_BUDGET, value: 50, required: true });
    this.submit = h("button", { class: "primary", type: "submit" }, "Make queue");
    this.figure = mapChart({
      run: run.run,
      page,
      points: this.points,
      signal,
      select: (box) => this.setBox(box),
    });
    this.element = h(
      "section",
      {},
      runHead(run.run, "map"),
      h("p", { class: "lead" }, this.#explanation()),
      h("div", { class: "review" }, this.#queueCard(), this.#mapCard()),
    );
    this.count();
  }

  #explanation() {
    const mark = this.page.map
      ? "Each square is a group of examples; its size shows their number"
      : "Each dot is an example";
    return `${mark}. Further up the model was surer of its label, further right it changed its mind. ` +
      "Red was never right, blue always. Draw a box to make a queue of what is in it.";
  }

  #queueCard() {
    const { regions } = this.page.summary;
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.makeQueue();
    };
    return h(
      "section",
      { class: "card side", "aria-label": "A queue of a part of the map" },
      this.notice,
      h("h2", {}, "A queue of a part"),
      REGION_NAMES.map((name) => {
        const { title, meaning, box } = REGIONS[name];
        return h(
          "button",
          { type: "button", class: "region", onclick: () => this.setBox(box) },
          h("strong", {}, `${title}: ${number(regions[name])}`),
          h("small", {}, meaning),
        );
      }),
      h(
        "form",
        { onsubmit: submit },
        h(
          "div",
          { class: "bounds" },
          this.inputs.map(({ label, input }) => [h("label", { for: input.id }, label), input]),
        ),
        this.counted,
        h("label", { for: "map-budget" }, "How many examples"),
        this.budget,
        this.submit,
      ),
    );
  }

  #mapCard() {
    const { run, page: { summary } } = this;
    const epochs = h("input", {
      type: "number",
      id: "first",
      min: 1,
      max: run.epochs.length,
      value: this.first,
      placeholder: String(run.epochs.length),
      onchange: () => {
        location.hash = address(["runs", run.run, "map"], { first: epochs.value });
      },
    });
    /** @type {[Region, string][]} */
    const rows = REGION_NAMES.map((name) => [name, REGIONS[name].title]);
    rows.push(["between", "Between"]);
    return h(
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
      mapLegend(),
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
            rows.map(([name, title]) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, title),
                h("td", { class: "num" }, number(summary.regions[name])),
                h("td", { class: "num" }, percent(summary.regions[name] / (summary.num_examples || 1))),
              )
            ),
          ),
        ),
      ),
    );
  }

  /**
   * Set the bounds of the queue.
   *
   * @param {Box} box
   */
  setBox(box) {
    for (const { axis, side, input } of this.inputs) input.value = String(box[axis][side] ?? "");
    this.count();
  }

  /** The bounds of the queue. */
  box() {
    /** @type {Box} */
    const box = { confidence: [null, null], variability: [null, null] };
    for (const { axis, side, input } of this.inputs) if (input.value !== "") box[axis][side] = Number(input.value);
    return box;
  }

  /** Show the number of examples inside the bounds. */
  count() {
    const { count, correctness } = countInside(this.points, this.box());
    this.submit.disabled = count === 0;
    this.counted.textContent = count === 0
      ? "No example lies there."
      : `${this.page.map ? "About " : ""}${number(count)} examples, right in ${
        percent(correctness, 0)
      } of their epochs.`;
    if (count) this.budget.value = String(Math.min(count, 50));
  }

  makeQueue() {
    /** @type {[string, Range][]} */
    const sides = Object.entries(this.box());
    const ranges = Object.fromEntries(sides.filter(([, range]) => range.some((bound) => bound !== null)));
    const request = {
      strategy: "area_under_margin",
      budget: Number(this.budget.value),
      first: this.first ? Number(this.first) : null,
      only: Object.keys(ranges).length ? { ranges } : null,
    };
    openQueue(this.run.run, request, this.notice, this.refused);
  }
}
