// One run: its numbers, what to be careful about, its queues, and a form to make another.

import { get, path } from "./api.js";
import { bar, h, head, number, percent, when } from "./dom.js";
import { newQueue } from "./new_queue.js";
import { crumbs, precisionText, strategyName, tile } from "./parts.js";
import { toQueue } from "./route.js";

export async function runView({ parts, signal, refused }) {
  const name = parts[1];
  const [run, { queues }] = await Promise.all([
    get(path("runs", name), signal), get(path("runs", name, "queues"), signal),
  ]);
  const found = run.num_examples ? await get(path("runs", name, "diagnostics"), signal) : null;
  const epochs = run.epochs.length;
  return h("section", {},
    crumbs(["Runs", "#/"], [name]),
    h("h1", {}, name),
    h("p", { class: "lead" }, `${number(run.num_classes)} classes, ${epochs} ${epochs === 1 ? "epoch" : "epochs"}, ` +
      `focal loss with γ = ${run.config.gamma}${run.config.alpha ? " and class weights" : ""}; made `,
      when(run.created_at), "."),
    numbers(run, found),
    warnings(found),
    h("div", { class: "columns" },
      h("div", {}, h("h2", {}, "Queues"), queueTable(run, queues)),
      h("div", {}, h("h2", {}, "New queue"), newQueue(run, found, refused))));
}

function numbers(run, found) {
  const estimate = found?.label_errors;
  const rate = run.reviews.error_rate;
  const [share, sure] = precisionText(rate);
  return h("dl", { class: "tiles" },
    tile("Examples", number(run.num_examples), found && `accuracy ${percent(found.loss.accuracy)}`),
    tile("Wrong labels, estimated", number(estimate?.estimated),
      estimate ? `${percent(estimate.share)} of the labels` : "needs stored logits"),
    tile("Mean loss", number(found?.loss.mean, 3),
      found && `the hardest 1 % hold ${percent(found.concentration.top_1_percent, 0)}`),
    tile("Error rate, from random rows", share, rate && rate.share !== null ? sure : "review a random queue to know"),
    tile("Reviewed", number(run.reviews.num_reviewed),
      `${number(run.reviews.num_wrong)} wrong, ${number(run.reviews.num_ok)} kept`));
}

function warnings(found) {
  const all = found?.warnings || [];
  if (!all.length) return null;
  return h("ul", { class: "notice warn", "aria-label": "Be careful" }, all.map((one) => h("li", {}, one.message)));
}

function queueTable(run, queues) {
  if (!queues.length) {
    return h("p", { class: "card muted" },
      "A queue is a list of examples worth a look, the most suspicious first. Make the first one with the form.");
  }
  return h("div", { class: "card table-card" }, h("table", { class: "stacked" },
    h("caption", { class: "hidden-text" }, "Queues of this run"),
    head("Queue", "Strategy", "Reviewed", "Precision of the strategy", "Made"),
    h("tbody", {}, queues.map((one) => h("tr", {},
      h("th", { scope: "row" }, h("a", { href: toQueue(run.run, one.name) }, one.name)),
      h("td", { "data-label": "Strategy" }, strategyName(one.strategy)),
      h("td", { "data-label": "Reviewed" }, h("span", { class: "progress" },
        bar(one.num_reviewed / one.num_rows, "good"), `${number(one.num_reviewed)} of ${number(one.num_rows)}`)),
      h("td", { "data-label": "Precision of the strategy" }, precisionText(run.reviews.precision[one.strategy])[0]),
      h("td", { "data-label": "Made" }, when(one.created_at)))))));
}
