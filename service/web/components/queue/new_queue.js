// The form that makes a queue of a run: three choices for the usual case, the others behind "More choices".

import { h, number, problem } from "../../lib/dom.js";
import { toQueue } from "../../lib/route.js";
import { postQueue, previewQueue } from "../../lib/runs_api.js";
import { isStructured } from "../../lib/units.js";
import { field, numberInput, showInputs } from "../form_inputs.js";
import { className } from "../labels.js";
import { mixInputs } from "./mix_inputs.js";
import { MAX_BUDGET } from "./open_queue.js";
import { queueOptions } from "./queue_options.js";
import { rankUnits, strategiesOf } from "./strategies.js";

/** @import { QueuePreview, QueueRequest, Refused, Run } from "../../types.d.ts" */

/** Largest number of classes with a quota each. */
const MAX_QUOTAS = 50;
/** Pause after the last input before a preview. */
const PREVIEW_DELAY_MS = 400;
const MAX_CLASSES_SHOWN = 6;

/**
 * @param {Run} run
 * @param {Refused} refused
 */
export function newQueue(run, refused) {
  const strategies = strategiesOf(run);
  const notice = h("div", {});
  const meaning = h("p", { class: "muted", id: "meaning", "aria-live": "polite" });
  const strategy = h(
    "select",
    { id: "strategy", "aria-describedby": "meaning" },
    strategies.map(({ name: value, label }) => h("option", { value }, label)),
  );
  const mix = mixInputs(run);
  const budget = numberInput("budget", { min: 1, max: MAX_BUDGET, required: true, value: 50 });
  const quotas = h(
    "select",
    { id: "quotas" },
    h("option", { value: "" }, "As they come"),
    h("option", { value: "equal" }, "The same number of each class"),
    h("option", { value: "proportional" }, "In proportion to the classes"),
    Number(run.num_classes) <= MAX_QUOTAS && h("option", { value: "numbers" }, "A number for each class"),
  );
  const classesField = field("quotas", run.task === "multi_label" ? "Labels" : "Classes", quotas);
  const classQuotas = quotaInputs(run);
  const options = queueOptions(run);
  const name = h("input", { id: "name", maxlength: 100, autocomplete: "off", placeholder: "optional" });
  const submit = h("button", { class: "primary", type: "submit" }, "Make queue");
  const expected = h("p", { class: "muted expected", "aria-live": "polite" });
  const form = h(
    "form",
    { class: "card new-queue" },
    notice,
    h("label", { for: "strategy" }, "Strategy"),
    strategy,
    meaning,
    mix,
    h("label", { for: "budget" }, isStructured(run) ? "How many rows" : "How many examples"),
    budget,
    classesField,
    classQuotas,
    options.element,
    h("label", { for: "name" }, "Name"),
    name,
    submit,
    expected,
  );

  const refresh = () => {
    const isMix = strategy.value === "mix";
    meaning.textContent = strategies[strategy.selectedIndex].description;
    mix.show(isMix);
    const used = isMix ? mix.strategies() : [strategy.value];
    // Whole examples with many elements have no class of their own.
    const haveClasses = !isStructured(run) || (rankUnits(used) && !options.wholeExamples());
    showInputs(classesField, haveClasses);
    showInputs(classQuotas, haveClasses && quotas.value === "numbers");
    options.fit(strategy.value, { used, quotas: quotas.value, haveClasses });
  };
  /** @returns {QueueRequest} */
  const request = () => ({
    strategy: strategy.value,
    budget: Number(budget.value),
    ...options.members(),
    ...(strategy.value === "mix" && { mix: mix.shares() }),
    ...(quotas.value && !classesField.hidden &&
      { per_class: quotas.value === "numbers" ? quotaNumbers(classQuotas) : quotas.value }),
  });
  const preview = new Preview(run, form, request, expected);
  form.addEventListener("input", (event) => {
    refresh();
    if (event.target !== name) preview.schedule();
  });
  form.addEventListener("focusin", () => preview.schedule(), { once: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    preview.stop();
    submit.disabled = true;
    const chosenName = name.value.trim();
    try {
      const queue = await postQueue(run.run, { ...request(), ...(chosenName && { name: chosenName }) });
      location.hash = toQueue(run.run, queue.name);
    } catch (error) {
      if (!refused(error)) notice.replaceChildren(problem(error));
    }
    submit.disabled = false;
  });
  refresh();
  return form;
}

/** Shows what the queue would contain. Errors of invalid requests are left to the submit button. */
class Preview {
  /**
   * @param {Run} run
   * @param {HTMLFormElement} form
   * @param {() => QueueRequest} request
   * @param {HTMLElement} line Gets the text.
   */
  constructor(run, form, request, line) {
    this.run = run;
    this.form = form;
    this.request = request;
    this.line = line;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.loading = new AbortController();
  }

  /** Update the preview after a pause. */
  schedule() {
    this.stop();
    this.timer = setTimeout(() => this.#update(), PREVIEW_DELAY_MS);
  }

  stop() {
    clearTimeout(this.timer);
    this.loading.abort();
  }

  async #update() {
    this.loading = new AbortController();
    const { signal } = this.loading;
    let text = "";
    if (this.form.isConnected && this.form.checkValidity()) {
      const preview = await previewQueue(this.run.run, this.request(), signal).catch(() => null);
      if (preview) text = expectation(this.run, preview);
    }
    if (!signal.aborted) this.line.textContent = text;
  }
}

/**
 * The contents of a previewed queue in words.
 *
 * @param {Run} run
 * @param {QueuePreview} preview
 */
function expectation(run, { expected_yield: expected, num_rows: rows, num_per_class: classes, chosen }) {
  if (!rows) return "No example fits.";
  const wrong = Math.round(expected.wrong_labels);
  const counts = Object.entries(classes || {}).sort(([, a], [, b]) => b - a);
  const shown = counts.slice(0, MAX_CLASSES_SHOWN)
    .map(([label, count]) => `${className(run, Number(label))}: ${number(count)}`);
  const rest = counts.length > MAX_CLASSES_SHOWN ? ", …" : "";
  const byClass = shown.length ? `; by class: ${shown.join(", ")}${rest}` : "";
  return `About ${number(wrong)} wrong ${wrong === 1 ? "label" : "labels"} expected in ${number(rows)} ` +
    `${rows === 1 ? "row" : "rows"}${byClass}.${chosen ? ` ${chosen.why}` : ""}`;
}

/** @param {Run} run */
function quotaInputs(run) {
  return h(
    "fieldset",
    { class: "quotas", hidden: true },
    h("legend", {}, "At most of each class"),
    Array.from(
      { length: Math.min(run.num_classes || 0, MAX_QUOTAS) },
      (_, label) =>
        h(
          "label",
          {},
          h("span", {}, className(run, label)),
          h("input", { type: "number", min: 0, value: 10, "data-class": run.class_names?.[label] ?? label }),
        ),
    ),
  );
}

/** @param {HTMLElement} element */
function quotaNumbers(element) {
  return Object.fromEntries(
    [...element.querySelectorAll("input")].map((input) => [input.dataset.class, Number(input.value)]),
  );
}
