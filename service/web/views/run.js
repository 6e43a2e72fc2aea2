// The overview of a run: its numbers, warnings, queues, a form for a new queue, and charts.

import { correctedCard } from "../components/corrected_card.js";
import { runHead, tile } from "../components/layout.js";
import { remainingCard, reviewersCard } from "../components/quality_cards.js";
import { newQueue } from "../components/queue/new_queue.js";
import { calibrationCard, concentrationCard, histogramCard } from "../components/run_charts.js";
import { precisionText, rankedBy, strategyName } from "../components/queue/strategies.js";
import { bar, h, head, number, percent, problem, when } from "../lib/dom.js";
import { toQueue } from "../lib/route.js";
import { getAgreement, getDiagnostics, getQueues, getRemaining, getRun } from "../lib/runs_api.js";
import { getPerson } from "../lib/session.js";
import { classCount, elementsName, estimatedErrors, isStructured } from "../lib/units.js";

/** @import { Diagnostics, Person, Queue, Run, View } from "../types.d.ts" */

/** @param {View} view */
export async function runView(view) {
  const { parts, signal, refused } = view;
  const name = parts[1];
  const [run, queues, person] = await Promise.all([getRun(name, signal), getQueues(name, signal), getPerson()]);
  const notice = h("div", {});
  const charts = h("div", { class: "cards" });
  const tiles = h("div", {}, numbers(run, null));
  const table = h("div", {}, queueTable(run, queues, person));
  const quality = h("div", { class: "columns even" });
  const corrected = correctedCard(run, person, view, reviewed);
  const section = h(
    "section",
    {},
    runHead(name, ""),
    h("p", { class: "lead" }, leadText(run), when(run.created_at), "."),
    tiles,
    notice,
    h(
      "div",
      { class: person.isOwner && "columns" },
      h("div", {}, h("h2", {}, "Queues"), table, run.num_examples > 0 && corrected),
      person.isOwner && h("div", {}, h("h2", {}, "New queue"), newQueue(run, refused)),
    ),
    quality,
    charts,
  );
  // The first diagnostics of an epoch read all its rows, so the view is shown before them.
  if (run.num_examples) {
    attempt(showDiagnostics);
    attempt(showQuality);
  }
  return section;

  /** @param {() => Promise<void>} work */
  async function attempt(work) {
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError" && !refused(error)) notice.append(problem(error));
    }
  }

  async function showDiagnostics() {
    const diagnostics = await getDiagnostics(name, {}, signal);
    tiles.replaceChildren(numbers(run, diagnostics));
    if (diagnostics.warnings.length) notice.replaceChildren(warnings(diagnostics));
    const cards = [
      histogramCard(run, diagnostics, signal),
      concentrationCard(run, diagnostics, signal),
      calibrationCard(diagnostics, signal),
    ];
    charts.replaceChildren(...cards.filter((card) => card !== null));
  }

  async function showQuality() {
    if (!run.reviews.num_reviewed) return;
    const [remaining, agreement] = await Promise.all([getRemaining(name, signal), getAgreement(name, signal)]);
    const cards = [remainingCard(run, remaining), reviewersCard(run, agreement)];
    quality.replaceChildren(...cards.filter((card) => card !== null));
  }

  /** Show what follows from new verdicts. */
  async function reviewed() {
    Object.assign(run, await getRun(name, signal));
    table.replaceChildren(queueTable(run, await getQueues(name, signal), person));
    await Promise.all([attempt(showDiagnostics), attempt(showQuality)]);
  }
}

/** @param {Run} run */
const leadText = (run) =>
  `${classCount(run)}, ${run.epochs.length} ${run.epochs.length === 1 ? "epoch" : "epochs"}, ` +
  `focal loss with γ = ${run.config.gamma}${run.config.alpha ? " and class weights" : ""}; made `;

/**
 * The numbers of a run. Those that need diagnostics are placeholders while these are null.
 *
 * @param {Run} run
 * @param {Diagnostics | null} diagnostics
 */
function numbers(run, diagnostics) {
  const estimate = estimatedErrors(diagnostics);
  const structured = isStructured(run);
  const open = run.num_examples && !diagnostics ? "…" : "–";
  const rate = run.reviews.error_rate;
  const [share, details] = precisionText(rate);
  return h(
    "dl",
    { class: "tiles" },
    tile(
      "Examples",
      number(run.num_examples),
      diagnostics ? accuracyText(structured, diagnostics.loss.accuracy) : open,
    ),
    tile(
      "Wrong labels, estimated",
      diagnostics ? number(estimate?.estimated) : open,
      estimate
        ? `${percent(estimate.share)} of the ${structured ? elementsName(run) : "labels"}`
        : diagnostics
        ? "needs stored logits"
        : open,
    ),
    tile(
      "Mean loss",
      diagnostics ? number(diagnostics.loss.mean, 3) : open,
      diagnostics ? `the hardest 1 % hold ${percent(diagnostics.concentration.top_1_percent, 0)}` : open,
    ),
    tile(
      "Error rate, from random rows",
      share,
      rate && rate.share !== null ? details : "review a random queue to know",
    ),
    tile(
      "Reviewed",
      number(run.reviews.num_reviewed),
      `${number(run.reviews.num_wrong)} wrong, ${number(run.reviews.num_ok)} kept` +
        (run.reviews.num_conflict ? `, ${number(run.reviews.num_conflict)} in conflict` : ""),
    ),
  );
}

/**
 * @param {boolean} structured
 * @param {number | null} accuracy
 */
function accuracyText(structured, accuracy) {
  if (!structured) return `accuracy ${percent(accuracy)}`;
  return accuracy === null ? "predictions unknown" : `the model agrees with all of ${percent(accuracy)}`;
}

/** @param {Diagnostics} diagnostics */
function warnings(diagnostics) {
  return h(
    "ul",
    { class: "notice warn", "aria-label": "Be careful" },
    diagnostics.warnings.map(({ message }) => h("li", {}, message)),
  );
}

/**
 * @param {Run} run
 * @param {Queue[]} queues
 * @param {Person} person
 */
function queueTable(run, queues, person) {
  if (!queues.length) {
    return h(
      "p",
      { class: "card muted" },
      "A queue is a list of examples worth a look, the most suspicious first. ",
      person.isOwner ? "Make the first one with the form." : "An owner can make the first one.",
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
        queues.map((queue) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("a", { href: toQueue(run.run, queue.name) }, queue.name)),
            h("td", { "data-label": "Strategy" }, strategyName(queue.strategy)),
            h(
              "td",
              { "data-label": "Reviewed" },
              h(
                "span",
                { class: "progress" },
                bar(queue.num_reviewed / queue.num_rows, "good"),
                `${number(queue.num_reviewed)} of ${number(queue.num_rows)}`,
              ),
            ),
            h(
              "td",
              { "data-label": "Precision of the strategy" },
              precisionText(run.reviews.precision[rankedBy(queue)])[0],
            ),
            h("td", { "data-label": "Made" }, when(queue.created_at)),
            h(
              "td",
              { class: "end" },
              h(
                "a",
                { class: "button", href: toQueue(run.run, queue.name), "aria-label": `Review ${queue.name}` },
                queue.num_reviewed === queue.num_rows || !person.canReview ? "Look" : "Review",
              ),
            ),
          )
        ),
      ),
    ),
  );
}
