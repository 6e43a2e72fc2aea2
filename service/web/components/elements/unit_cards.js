// The cards of a structured example: its elements, and its units, each of which can be marked in the content.

import { h, head, number, percent } from "../../lib/dom.js";
import { labels, unitName, verdictBadge } from "../labels.js";
import { card } from "../layout.js";
import { elementContent } from "./element_content.js";

/** @import { ExampleDetail, ExampleUnit, Run } from "../../types.d.ts" */

const MAX_UNITS = 100;

/**
 * @param {Run} run
 * @param {ExampleDetail} example
 */
export function unitCards(run, example) {
  const { units = [], elements = null, attributes, id } = example;
  const whole = { id, attributes, unit: null, target: null, suggested: null };
  const content = h("div", {});
  const show = (/** @type {ExampleUnit | null} */ unit) =>
    content.replaceChildren(elementContent(run, { ...whole, ...unit }, elements));
  show(null);
  const none = example.num_wrong === null
    ? "The run has only the histogram of the elements, so the predictions are unknown."
    : "The model agrees with every label.";
  return {
    content: card("Example", content),
    units: card("Where the model differs", unitTable(run, units, show, none)),
  };
}

/**
 * The units by loss. A click marks a unit in the content, a second click unmarks it.
 *
 * @param {Run} run
 * @param {ExampleUnit[]} units
 * @param {(unit: ExampleUnit | null) => void} show
 * @param {string} none The text if there are no units.
 */
function unitTable(run, units, show, none) {
  if (!units.length) return h("p", { class: "muted" }, none);
  const buttons = units.slice(0, MAX_UNITS).map((unit) => {
    const button = h("button", {
      type: "button",
      class: "unit-button",
      "aria-pressed": "false",
      onclick: () => {
        const marked = button.getAttribute("aria-pressed") === "false";
        for (const other of buttons) other.setAttribute("aria-pressed", String(marked && other === button));
        show(marked ? unit : null);
      },
    }, unitName(run, unit.unit));
    return button;
  });
  return [
    h(
      "table",
      { class: "stacked" },
      h("caption", { class: "hidden-text" }, "Units of this example, the largest loss first"),
      head("Mark", "Given → predicted", run.task === "masks" && ["Elements"], ["Loss"], ["p(label)"], "Verdict"),
      h("tbody", {}, buttons.map((button, place) => unitRow(run, units[place], button))),
    ),
    units.length > MAX_UNITS &&
    h("p", { class: "muted" }, `and ${number(units.length - MAX_UNITS)} with a smaller loss`),
  ];
}

/**
 * @param {Run} run
 * @param {ExampleUnit} unit
 * @param {HTMLElement} button
 */
function unitRow(run, unit, button) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, button),
    h("td", { "data-label": "Given → predicted" }, labels(run, unit)),
    run.task === "masks" && h("td", { class: "num", "data-label": "Elements" }, number(unit.num_elements)),
    h("td", { class: "num", "data-label": "Loss" }, number(unit.loss, 3)),
    h("td", { class: "num", "data-label": "p(label)" }, percent(unit.p_t)),
    h("td", { "data-label": "Verdict" }, verdictBadge(run, unit)),
  );
}
