// One run: its numbers, what to be careful about, its queues, and a form to make another.

import { call, get, path } from "./api.js";
import { bar, h, head, number, percent, problem, when } from "./dom.js";
import { STRATEGIES, className, crumbs, precisionText, strategyName, tile } from "./parts.js";
import { toQueue } from "./route.js";

const MOST_QUOTAS = 50;

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

function newQueue(run, found, refused) {
  const told = h("div", {});
  const meaning = h("p", { class: "muted", id: "meaning", "aria-live": "polite" });
  const strategy = h("select", { id: "strategy", "aria-describedby": "meaning" },
    Object.entries(STRATEGIES).filter(([name]) => name !== "mix").map(([name, [text]]) =>
      h("option", { value: name }, text)));
  const budget = h("input", { id: "budget", type: "number", min: 1, max: 100000, required: true, value: 50 });
  const quotas = h("select", { id: "quotas" },
    h("option", { value: "" }, "As they come"), h("option", { value: "equal" }, "The same number of each class"),
    h("option", { value: "proportional" }, "In proportion to the classes"),
    run.num_classes <= MOST_QUOTAS && h("option", { value: "numbers" }, "A number for each class"));
  const each = quotaInputs(run, found);
  const name = h("input", { id: "name", maxlength: 100, autocomplete: "off", placeholder: "optional" });
  const button = h("button", { class: "primary", type: "submit" }, "Make queue");
  const explain = () => { meaning.textContent = STRATEGIES[strategy.value][1]; };
  strategy.addEventListener("change", explain);
  explain();
  quotas.addEventListener("change", () => { each.hidden = quotas.value !== "numbers"; });
  const form = h("form", { class: "card" }, told,
    h("label", { for: "strategy" }, "Strategy"), strategy, meaning,
    h("label", { for: "budget" }, "How many examples"), budget,
    h("label", { for: "quotas" }, "Classes"), quotas, each,
    h("label", { for: "name" }, "Name"), name, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const request = { strategy: strategy.value, budget: Number(budget.value) };
    if (name.value.trim()) request.name = name.value.trim();
    if (quotas.value === "numbers") request.per_class = quotaNumbers(each);
    else if (quotas.value) request.per_class = quotas.value;
    try {
      const made = await call("POST", path("runs", run.run, "queues"), request);
      location.hash = toQueue(run.run, made.name);
    } catch (error) {
      if (!refused(error)) told.replaceChildren(problem(error));
    }
    button.disabled = false;
  });
  return form;
}

function quotaInputs(run, found) {
  const counts = found?.classes || [];
  return h("fieldset", { class: "quotas", hidden: true }, h("legend", {}, "At most of each class"),
    Array.from({ length: Math.min(run.num_classes || 0, MOST_QUOTAS) }, (_, label) => h("label", {},
      h("span", {}, className(run, label), counts[label] && h("small", { class: "muted" }, ` of ${number(counts[label].count)}`)),
      h("input", { type: "number", min: 0, value: 10, "data-class": label }))));
}

function quotaNumbers(each) {
  return Object.fromEntries([...each.querySelectorAll("input")].map((input) => [input.dataset.class, Number(input.value)]));
}
