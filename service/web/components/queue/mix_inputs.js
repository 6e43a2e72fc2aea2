// Inputs for the strategies of a mix and their shares.

import { h } from "../../lib/dom.js";
import { showInputs } from "../form_inputs.js";
import { strategiesOf } from "./strategies.js";

/** @import { Run } from "../../types.d.ts" */

/** @typedef {{ line: HTMLElement, select: HTMLSelectElement, share: HTMLInputElement, remove: HTMLButtonElement }} Part */

/** The shares of the default strategy and of the random sample, in %. */
const DEFAULT_SHARE = 80, RANDOM_SHARE = 20;

/**
 * A line for each strategy of the mix, and a button to add one. Each strategy can be chosen once.
 *
 * @param {Run} run
 */
export function mixInputs(run) {
  const choices = strategiesOf(run).filter(({ name }) => name !== "mix" && name !== "recommended");
  const rows = h("div", {});
  const add = h("button", { type: "button", class: "quiet" }, "Add a strategy");
  const element = h("fieldset", { class: "mix" }, h("legend", {}, "Share of each strategy, in %"), rows, add);
  /** @type {Part[]} */
  let parts = [];
  const strategies = () => parts.map(({ select }) => select.value);
  const refresh = () => {
    const chosen = strategies();
    for (const { select, remove } of parts) {
      for (const option of select.options) {
        option.disabled = option.value !== select.value && chosen.includes(option.value);
      }
      remove.disabled = parts.length < 2;
    }
    add.hidden = parts.length === choices.length;
  };
  const changed = () => element.dispatchEvent(new Event("input", { bubbles: true }));
  /** @type {(name: string, percent: number) => Part} */
  const append = (name, percent) => {
    const part = mixPart(choices, name, percent, () => {
      parts = parts.filter((other) => other !== part);
      part.line.remove();
      refresh();
      add.focus();
      changed();
    });
    parts.push(part);
    rows.append(part.line);
    return part;
  };
  add.addEventListener("click", () => {
    const free = choices.find(({ name }) => !strategies().includes(name));
    if (!free) return;
    const part = append(free.name, RANDOM_SHARE);
    refresh();
    part.select.focus();
    changed();
  });
  append(choices[0].name, DEFAULT_SHARE);
  append("random", RANDOM_SHARE);
  rows.addEventListener("input", refresh);
  refresh();
  return Object.assign(element, {
    strategies,
    shares: () => Object.fromEntries(parts.map(({ select, share }) => [select.value, Number(share.value) / 100])),
    show: (/** @type {boolean} */ shown) => showInputs(element, shown),
  });
}

/**
 * A line of the mix.
 *
 * @param {ReturnType<typeof strategiesOf>} choices
 * @param {string} name
 * @param {number} percent
 * @param {() => void} removed
 * @returns {Part}
 */
function mixPart(choices, name, percent, removed) {
  const select = h(
    "select",
    { "aria-label": "Part of the mix" },
    choices.map(({ name: value, label }) => h("option", { value }, label)),
  );
  select.value = name;
  const share = h("input", {
    type: "number",
    min: 0.1,
    max: 100,
    step: "any",
    required: true,
    value: percent,
    "aria-label": "Its share in %",
  });
  const remove = h("button", {
    type: "button",
    class: "quiet",
    "aria-label": "Leave this part out",
    onclick: removed,
  }, "×");
  return { line: h("div", { class: "mix-row" }, select, share, remove), select, share, remove };
}
