// One run at a glance: its numbers, what to be careful about, its queues and a form to make another, and its charts.

import { get, path } from "../lib/api.js";
import { bar, h, head, number, percent, problem, when } from "../lib/dom.js";
import { newQueue } from "../components/new_queue.js";
import { calibrationCard, concentrationCard, histogramCard } from "../components/overview.js";
import { precisionText, runHead, strategyName, tile } from "../components/parts.js";
import { toQueue } from "../lib/route.js";

export async function runView({ parts, signal, refused }) {
  const name = parts[1];
  const [run, { queues }] = await Promise.all([
    get(path("runs", name), signal),
    get(path("runs", name, "queues"), signal),
  ]);
  const epochs = run.epochs.length;
  const told = h("div", {});
  const charts = h("div", { class: "cards" });
  const tiles = h("div", {}, numbers(run, null));
  const section = h(
    "section",
    {},
    runHead(name, ""),
    h(
      "p",
      { class: "lead" },
      `${number(run.num_classes)} classes, ${epochs} ${epochs === 1 ? "epoch" : "epochs"}, ` +
        `focal loss with γ = ${run.config.gamma}${run.config.alpha ? " and class weights" : ""}; made `,
      when(run.created_at),
      ".",
    ),
    tiles,
    told,
    h(
      "div",
      { class: "columns" },
      h("div", {}, h("h2", {}, "Queues"), queueTable(run, queues)),
      h("div", {}, h("h2", {}, "New queue"), newQueue(run, refused)),
    ),
    charts,
  );
  // They read the whole epoch, the first time they are asked for: what is known already does not wait.
  if (run.num_examples) diagnose();
  return section;

  async function diagnose() {
    try {
      const found = await get(path("runs", name, "diagnostics"), signal);
      tiles.replaceChildren(numbers(run, found));
      if (found.warnings.length) told.replaceChildren(warnings(found));
      charts.replaceChildren(...[
        histogramCard(run, found, signal),
        concentrationCard(run, found, signal),
        calibrationCard(found, signal),
      ].filter(Boolean));
    } catch (error) {
      if (error.name !== "AbortError" && !refused(error)) told.replaceChildren(problem(error));
    }
  }
}

/** The numbers of a run; those that need the diagnostics stand open until they are there. */
function numbers(run, found) {
  const estimate = found?.label_errors;
  const open = run.num_examples && !found ? "…" : "–";
  const rate = run.reviews.error_rate;
  const [share, sure] = precisionText(rate);
  return h(
    "dl",
    { class: "tiles" },
    tile("Examples", number(run.num_examples), found ? `accuracy ${percent(found.loss.accuracy)}` : open),
    tile(
      "Wrong labels, estimated",
      found ? number(estimate?.estimated) : open,
      estimate ? `${percent(estimate.share)} of the labels` : found ? "needs stored logits" : open,
    ),
    tile(
      "Mean loss",
      found ? number(found.loss.mean, 3) : open,
      found ? `the hardest 1 % hold ${percent(found.concentration.top_1_percent, 0)}` : open,
    ),
    tile("Error rate, from random rows", share, rate && rate.share !== null ? sure : "review a random queue to know"),
    tile(
      "Reviewed",
      number(run.reviews.num_reviewed),
      `${number(run.reviews.num_wrong)} wrong, ${number(run.reviews.num_ok)} kept`,
    ),
  );
}

function warnings(found) {
  return h(
    "ul",
    { class: "notice warn", "aria-label": "Be careful" },
    found.warnings.map((one) => h("li", {}, one.message)),
  );
}

function queueTable(run, queues) {
  if (!queues.length) {
    return h(
      "p",
      { class: "card muted" },
      "A queue is a list of examples worth a look, the most suspicious first. Make the first one with the form.",
    );
  }
  return h(
    "div",
    { class: "card table-card" },
    h(
      "table",
      { class: "stacked" },
      h("caption", { class: "hidden-text" }, "Queues of this run"),
      head(
        "Queue",
        "Strategy",
        "Reviewed",
        "Precision of the strategy",
        "Made",
        h("span", { class: "hidden-text" }, "Review"),
      ),
      h(
        "tbody",
        {},
        queues.map((one) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("a", { href: toQueue(run.run, one.name) }, one.name)),
            h("td", { "data-label": "Strategy" }, strategyName(one.strategy)),
            h(
              "td",
              { "data-label": "Reviewed" },
              h(
                "span",
                { class: "progress" },
                bar(one.num_reviewed / one.num_rows, "good"),
                `${number(one.num_reviewed)} of ${number(one.num_rows)}`,
              ),
            ),
            h(
              "td",
              { "data-label": "Precision of the strategy" },
              precisionText(run.reviews.precision[one.strategy])[0],
            ),
            h("td", { "data-label": "Made" }, when(one.created_at)),
            h(
              "td",
              { class: "end" },
              h(
                "a",
                { class: "button", href: toQueue(run.run, one.name), "aria-label": `Review ${one.name}` },
                one.num_reviewed === one.num_rows ? "Look" : "Review",
              ),
            ),
          )
        ),
      ),
    ),
  );
}
