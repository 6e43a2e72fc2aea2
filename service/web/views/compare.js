// The comparison of two runs, or of two epochs of one run.

import { compareResults } from "../components/compare_results.js";
import { field } from "../components/form_inputs.js";
import { runHead } from "../components/layout.js";
import { h, problem } from "../lib/dom.js";
import { address } from "../lib/route.js";
import { getComparison, getRun, getRuns } from "../lib/runs_api.js";

/** @import { Comparison, Run, View } from "../types.d.ts" */
/** @typedef {"with" | "epoch" | "other_epoch" | "top" | "alpha" | "gamma"} Parameter */

/** @type {Parameter[]} */
const PARAMETERS = ["with", "epoch", "other_epoch", "top", "alpha", "gamma"];

/** @param {View} view */
export async function compareView(view) {
  const { parts, signal } = view;
  const [run, runs] = await Promise.all([getRun(parts[1], signal), getRuns(signal)]);
  const page = new ComparePage(run, runs.filter((other) => other.num_examples), view);
  page.update();
  return page.element;
}

class ComparePage {
  /**
   * @param {Run} run
   * @param {Run[]} runs The runs to compare with.
   * @param {View} view
   */
  constructor(run, runs, { query, signal, refused }) {
    this.run = run;
    this.runs = runs;
    this.signal = signal;
    this.refused = refused;
    this.chartSettings = { axis: "rank" };
    /** The request in progress. */
    this.loading = new AbortController();
    this.values = /** @type {Record<Parameter, string>} */ (
      Object.fromEntries(PARAMETERS.map((name) => [name, query.get(name) || ""]))
    );
    this.epoch = h("select", { id: "compare-epoch" });
    this.otherEpoch = h("select", { id: "compare-other-epoch" });
    this.swap = h("a", {}, "Swap before and after");
    this.results = h("div", {});
    this.element = h(
      "section",
      {},
      runHead(run.run, "compare"),
      h("p", { class: "lead" }, "What a relabelled data set or another model changed, example by example."),
      this.#form(),
      this.results,
    );
    signal.addEventListener("abort", () => this.loading.abort());
  }

  #form() {
    const { values, run } = this;
    const other = this.#runChoice();
    const top = h("input", { id: "compare-top", type: "number", min: 1, placeholder: "one in a hundred" });
    top.value = values.top;
    this.#fillEpochs();
    /** @type {(input: HTMLInputElement | HTMLSelectElement, name: Parameter, then?: () => void) => void} */
    const bind = (input, name, then = () => {}) =>
      input.addEventListener("change", () => {
        values[name] = input.value;
        then();
        this.update();
      });
    bind(other, "with", () => {
      values.other_epoch = "";
      // By default a run is compared with another epoch of itself, not the same.
      if (other.value === run.run && !values.epoch) values.epoch = String(run.epochs[0]?.epoch ?? "");
      this.#fillEpochs();
    });
    bind(this.epoch, "epoch");
    bind(this.otherEpoch, "other_epoch");
    bind(top, "top");
    return h(
      "form",
      { class: "card compare-form", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      field(this.epoch.id, `Before: ${run.run}, epoch`, this.epoch),
      field(other.id, "After: run", other),
      field(this.otherEpoch.id, "After: epoch", this.otherEpoch),
      field(top.id, "How many count as the hardest", top),
      this.swap,
    );
  }

  #runChoice() {
    const { values, run, runs } = this;
    const names = runs.map((other) => other.run);
    // The service reports that the run of the address does not exist.
    if (values.with && !names.includes(values.with)) names.push(values.with);
    const select = h(
      "select",
      { id: "compare-with" },
      h("option", { value: "" }, "Choose a run"),
      names.map((name) => h("option", { value: name }, name === run.run ? `${name} itself, at another epoch` : name)),
    );
    select.value = values.with;
    return select;
  }

  #fillEpochs() {
    const { values, runs } = this;
    fillEpochs(this.epoch, this.run, values.epoch);
    fillEpochs(this.otherEpoch, runs.find((other) => other.run === values.with), values.other_epoch);
  }

  /** Load and show the comparison of the form's values. */
  async update() {
    const { values, run } = this;
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    if (this.element.isConnected) history.replaceState(null, "", address(["runs", run.run, "compare"], values));
    const { with: other, ...parameters } = values;
    this.swap.hidden = !other;
    const swapped = { ...values, with: run.run, epoch: values.other_epoch, other_epoch: values.epoch };
    this.swap.href = address(["runs", other, "compare"], swapped);
    if (!other) {
      const hint = run.epochs.length > 1 ? "A run can be compared with itself, at another epoch." : "";
      this.results.replaceChildren(h("p", { class: "card muted" }, "Choose the run that came after. ", hint));
      return;
    }
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
    this.results.setAttribute("aria-busy", "true");
    try {
      this.#show(await getComparison(run.run, other, query, signal), signal);
    } catch (error) {
      if (error.name !== "AbortError" && !this.refused(error)) this.results.replaceChildren(problem(error));
    }
    if (!signal.aborted) this.results.removeAttribute("aria-busy");
  }

  /**
   * @param {Comparison} comparison
   * @param {AbortSignal} signal
   */
  #show(comparison, signal) {
    if (comparison.num_common) {
      this.results.replaceChildren(...compareResults(this.run, comparison, this.chartSettings, signal));
      return;
    }
    const text = "The two have no example in common: examples are the same if their ids are.";
    this.results.replaceChildren(h("p", { class: "notice warn" }, text));
  }
}

/**
 * Offer the epochs of a run, the last one first.
 *
 * @param {HTMLSelectElement} select
 * @param {Run | undefined} run
 * @param {string} value
 */
function fillEpochs(select, run, value) {
  const [last, ...others] = (run?.epochs || []).map(({ epoch }) => epoch).toReversed();
  select.replaceChildren(
    h("option", { value: "" }, last === undefined ? "the last" : `${last}, the last`),
    ...others.map((epoch) => h("option", { value: epoch }, String(epoch))),
  );
  select.value = value;
  if (select.selectedIndex < 0) select.append(h("option", { value, selected: true }, value));
}
