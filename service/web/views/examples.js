// The examples of an epoch, filtered and sorted by the service, and a form that makes a queue of those that match.

import { exampleContent } from "../components/example_content.js";
import { exampleFilters } from "../components/example_filters.js";
import { labels, verdictBadge } from "../components/labels.js";
import { runHead } from "../components/layout.js";
import { MAX_BUDGET, openQueue } from "../components/queue/open_queue.js";
import { strategyName } from "../components/queue/strategies.js";
import { bar, h, head, number, percent, problem } from "../lib/dom.js";
import { apiParameters, exampleParameters, queueFilter } from "../lib/example_filter.js";
import { toExample } from "../lib/route.js";
import { getExamples, getRun } from "../lib/runs_api.js";
import { differenceText, isStructured } from "../lib/units.js";

/** @import { ExampleRow, ExamplesPage, Refused, Run, View } from "../types.d.ts" */

const PAGE_ROWS = 100;
const QUEUE_STRATEGIES = ["logit_margin", "top_loss", "self_confidence", "ambiguous", "random"];

/** @param {View} view */
export async function examplesView({ parts, query, signal, refused }) {
  const name = parts[1];
  const parameters = exampleParameters(query);
  const run = await getRun(name, signal);
  const load = (/** @type {object} */ cursor) =>
    getExamples(name, { ...apiParameters(run, parameters), limit: PAGE_ROWS, ...cursor }, signal);
  const first = await load({});
  const columns = columnNames(run);
  const notice = h("div", {});
  const body = h("tbody", {});
  const more = h("button", { type: "button" }, "Load more");
  let largestLoss = 0;
  /** @type {string | null} */
  let nextCursor = null;
  const append = (/** @type {ExamplesPage} */ page) => {
    largestLoss ||= Math.max(...page.rows.map((row) => row.loss), 0);
    body.append(...page.rows.map((row) => exampleRow(run, row, largestLoss)));
    nextCursor = page.next_cursor;
    more.hidden = !nextCursor;
  };
  append(first);
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      // A cursor belongs to one epoch, and the run may have got another one since.
      append(await load({ epoch: first.epoch, cursor: nextCursor }));
    } catch (error) {
      if (!refused(error)) notice.replaceChildren(problem(error));
    }
    more.disabled = false;
  });
  return h(
    "section",
    {},
    runHead(name, "examples"),
    h(
      "p",
      { class: "lead", role: "status" },
      `${number(first.num_matching)} of ${number(run.num_examples)} examples of epoch ${first.epoch}.`,
    ),
    notice,
    exampleFilters(run, parameters, first.rows),
    first.num_matching > 0 && queueForm(run, parameters, first, notice, refused),
    h(
      "div",
      { class: "card table-card" },
      h(
        "table",
        { class: "stacked" },
        h("caption", { class: "hidden-text" }, "Examples"),
        head("Example", columns.labels, "Loss", [columns.probability], [columns.margin], "Verdict"),
        body,
      ),
    ),
    more,
  );
}

/**
 * @param {Run} run
 * @param {ExampleRow} row
 * @param {number} largestLoss The end of the bars' scale.
 */
function exampleRow(run, row, largestLoss) {
  const suggested = row.prediction === row.target ? null : row.prediction;
  const columns = columnNames(run);
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row", class: "brief" },
      exampleContent(row),
      h("a", { class: "id", href: toExample(run.run, row.id) }, row.id),
    ),
    h(
      "td",
      { "data-label": columns.labels },
      isStructured(run) ? differenceText(run, row) : labels(run, { target: row.target, suggested }),
    ),
    h(
      "td",
      { class: "loss", "data-label": "Loss" },
      h("span", { class: "progress" }, bar(row.loss / (largestLoss || 1), "bad"), number(row.loss, 3)),
    ),
    h("td", { class: "num", "data-label": columns.probability }, percent(row.p_t)),
    h("td", { class: "num", "data-label": columns.margin }, number(row.logit_margin, 3)),
    h("td", { "data-label": "Verdict" }, verdictBadge(run, row)),
  );
}

/**
 * The names of the columns whose meaning depends on the kind of examples.
 *
 * @param {Run} run
 */
const columnNames = (run) =>
  isStructured(run)
    ? { labels: "The model differs from", probability: "Worst p(label)", margin: "Worst margin" }
    : { labels: "Given → the model says", probability: "p(label)", margin: "Margin" };

/**
 * A form that makes a queue of the examples that match.
 *
 * @param {Run} run
 * @param {Record<string, string>} parameters
 * @param {ExamplesPage} page
 * @param {HTMLElement} notice
 * @param {Refused} refused
 */
function queueForm(run, parameters, { num_matching: matching, epoch }, notice, refused) {
  const strategy = h(
    "select",
    { id: "these-strategy" },
    QUEUE_STRATEGIES.map((value) => h("option", { value }, strategyName(value))),
  );
  const budget = h("input", {
    id: "these-budget",
    type: "number",
    min: 1,
    max: MAX_BUDGET,
    required: true,
    value: Math.min(matching, 50),
  });
  const submit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const request = {
      strategy: strategy.value,
      budget: Number(budget.value),
      epoch,
      only: queueFilter(parameters),
      // The examples of a structured run, not their units: the conditions are on whole examples.
      ...(isStructured(run) && { units: false }),
    };
    openQueue(run.run, request, notice, refused);
  };
  return h(
    "form",
    { class: "inline", onsubmit: submit },
    h("label", { for: "these-budget" }, "Review"),
    budget,
    h("label", { for: "these-strategy" }, "of these by"),
    strategy,
    h("button", { class: "primary", type: "submit" }, "Make queue"),
  );
}
