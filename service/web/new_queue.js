// A form that makes a queue out of a run.

import { call, path } from "./api.js";
import { h, number, problem } from "./dom.js";
import { STRATEGIES, className } from "./parts.js";
import { toQueue } from "./route.js";

const MOST_QUOTAS = 50;

/**
 * @param run The run as the API tells it.
 * @param found Its diagnostics, or null where it has no examples.
 * @param refused Told of errors first; true where it has dealt with one.
 */
export function newQueue(run, found, refused) {
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
