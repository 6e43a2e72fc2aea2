// All runs, with the progress of their reviews.

import { dropZone } from "../components/drop_zone.js";
import { copyButton } from "../components/layout.js";
import { call, path } from "../lib/api.js";
import { announce, dialog, find, h, head, number, percent, problem } from "../lib/dom.js";
import { address, toRun } from "../lib/route.js";
import { getDiagnostics, getListedRuns, isWhole } from "../lib/runs_api.js";
import { getPerson } from "../lib/session.js";
import { estimatedErrors } from "../lib/units.js";

/** @import { DamagedRun, Run, View } from "../types.d.ts" */
/** @typedef {(signal: AbortSignal) => Promise<void>} Job */
/** @typedef {(element: Element, job: Job) => void} WhenSeen */

/** @param {View} view */
export async function runsView(view) {
  const { signal } = view;
  const [runs, { isOwner }] = await Promise.all([getListedRuns(signal), getPerson()]);
  if (runs.length === 0) return empty(view);
  const notice = h("div", {});
  const body = h("tbody", {});
  const whenSeen = seenQueue(signal);
  const comparison = compareBar(runs.filter(isWhole));
  const section = h(
    "section",
    {},
    h("h1", {}, "Runs"),
    h(
      "p",
      { class: "lead" },
      "A run is a model's predictions for a data set. Open one to find labels that may be wrong.",
    ),
    notice,
    isOwner && dropZone(view),
    comparison.bar,
    h(
      "div",
      { class: "card table-card" },
      h(
        "table",
        { class: "stacked" },
        h("caption", { class: "hidden-text" }, "All runs, by name"),
        head(
          h("span", { class: "hidden-text" }, "Compare"),
          "Run",
          ["Examples"],
          ["Classes"],
          ["Epochs"],
          ["Mean loss"],
          ["Wrong labels, estimated"],
          ["Reviewed"],
          ["Precision so far"],
          h("span", { class: "hidden-text" }, "Delete"),
        ),
        body,
      ),
    ),
  );
  for (const run of runs) {
    body.append(
      isWhole(run) ? runRow(run, notice, whenSeen, view, comparison.box(run)) : damagedRow(run, notice, view),
    );
  }
  if (!isOwner) { for (const button of body.querySelectorAll("button.danger")) button.remove(); }
  return section;
}

/**
 * @param {Run} run
 * @param {HTMLElement} notice Gets the error if the run cannot be deleted.
 * @param {WhenSeen} whenSeen
 * @param {View} view
 * @param {HTMLElement | undefined} box
 */
function runRow(run, notice, whenSeen, view, box) {
  const loss = h("td", { class: "num", "data-label": "Mean loss" }, "…");
  const wrong = h("td", { class: "num", "data-label": "Wrong labels, estimated" }, "…");
  const { num_reviewed: reviewed, num_wrong: bad, num_ok: good } = run.reviews;
  const element = h(
    "tr",
    {},
    h("td", { "data-label": box && "Compare" }, box),
    h("th", { scope: "row" }, h("a", { href: toRun(run.run) }, run.run)),
    h("td", { class: "num", "data-label": "Examples" }, number(run.num_examples)),
    h("td", { class: "num", "data-label": "Classes" }, number(run.num_classes)),
    h("td", { class: "num", "data-label": "Epochs" }, number(run.epochs.length)),
    loss,
    wrong,
    h("td", { class: "num", "data-label": "Reviewed" }, number(reviewed)),
    h(
      "td",
      { class: "num", "data-label": "Precision so far" },
      bad + good ? `${percent(bad / (bad + good), 0)} (${bad} of ${bad + good})` : "–",
    ),
    h(
      "td",
      { class: "end" },
      deleteButton(run.run, () =>
        askToDelete(
          run.run,
          `${number(run.num_rows)} rows, its queues and ${number(reviewed)} verdicts go with it.`,
          element,
          notice,
          view,
        )),
    ),
  );
  if (run.num_examples === 0) loss.textContent = wrong.textContent = "–";
  else {
    whenSeen(element, async (signal) => {
      const diagnostics = await getDiagnostics(run.run, {}, signal).catch(() => null);
      loss.textContent = number(diagnostics?.loss.mean, 3);
      wrong.textContent = number(estimatedErrors(diagnostics)?.estimated);
    });
  }
  return element;
}

/**
 * The row of a run that cannot be read.
 *
 * @param {DamagedRun} run
 * @param {HTMLElement} notice Gets the error if the run cannot be deleted.
 * @param {View} view
 */
function damagedRow({ run, error }, notice, view) {
  const text = "It is damaged. Its files may hold rows and verdicts that focal-loss verify can repair.";
  const element = h(
    "tr",
    {},
    h("td", {}),
    h("th", { scope: "row" }, run),
    h("td", { colspan: 7 }, h("span", { class: "badge bad" }, "Damaged"), " ", error),
    h("td", { class: "end" }, deleteButton(run, () => askToDelete(run, text, element, notice, view))),
  );
  return element;
}

/**
 * @param {string} run
 * @param {() => void} act
 */
const deleteButton = (run, act) =>
  h("button", { class: "quiet danger", type: "button", "aria-label": `Delete run ${run}`, onclick: act }, "Delete");

/**
 * A box for each run that has examples, and a bar that compares two ticked runs, the older one first.
 *
 * @param {Run[]} runs
 */
function compareBar(runs) {
  /** @type {Map<Run, HTMLInputElement>} */
  const boxes = new Map();
  const ticked = () =>
    runs.filter((run) => {
      const box = boxes.get(run);
      return box?.isConnected && box.checked;
    });
  const hint = h("span", { class: "muted", role: "status" });
  const button = h("button", {
    type: "button",
    onclick: () => {
      refresh();
      if (button.disabled) return;
      const [before, after] = ticked().sort((a, b) => Date.parse(a.created_at) - Date.parse(b.created_at));
      location.hash = address(["runs", before.run, "compare"], { with: after.run });
    },
  }, "Compare");
  const refresh = () => {
    const count = ticked().length;
    button.disabled = count !== 2;
    const hints = ["Tick two runs to compare them.", "Tick one more.", "", "Tick two runs, not more."];
    hint.textContent = hints[Math.min(count, 3)];
  };
  refresh();
  for (const run of runs.filter((run) => run.num_examples)) {
    boxes.set(run, h("input", { type: "checkbox", "aria-label": `Compare ${run.run}`, onchange: refresh }));
  }
  return {
    bar: runs.length > 1 && h("div", { class: "compare-runs" }, button, hint),
    box: (/** @type {Run} */ run) => boxes.get(run),
  };
}

/**
 * Runs jobs one after the other, each after its element has come into view. Diagnostics read a whole epoch.
 *
 * @param {AbortSignal} signal
 * @returns {WhenSeen}
 */
function seenQueue(signal) {
  /** @type {Map<Element, Job>} */
  const jobs = new Map();
  /** @type {Promise<void>} */
  let last = Promise.resolve();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const job = jobs.get(target);
      if (!isIntersecting || !job) continue;
      jobs.delete(target);
      last = last.then(() => signal.aborted ? undefined : job(signal));
    }
  });
  signal.addEventListener("abort", () => observer.disconnect());
  return (element, job) => {
    jobs.set(element, job);
    observer.observe(element);
  };
}

/**
 * @param {string} run
 * @param {string} text The warning of the dialog, about the data of the run.
 * @param {HTMLElement} element The row of the run.
 * @param {HTMLElement} notice
 * @param {View} view
 */
function askToDelete(run, text, element, notice, view) {
  const content = h(
    "form",
    { method: "dialog" },
    h("h2", {}, `Delete ${run}?`),
    h("p", {}, `${text} It cannot be brought back.`),
    h(
      "div",
      { class: "buttons" },
      h("button", { value: "", autofocus: true }, "Keep it"),
      h("button", { value: "delete", class: "primary danger" }, "Delete for good"),
    ),
  );
  dialog(`Delete ${run}?`, content, async () => {
    try {
      await call("DELETE", path("runs", run));
      element.remove();
      announce(`${run} is deleted.`);
      if (!document.querySelector("tbody tr")) find(document, "#main").replaceChildren(empty(view));
    } catch (error) {
      if (!view.refused(error)) notice.replaceChildren(problem(error));
    }
  });
}

/** @param {View} view */
function empty(view) {
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const command = `focal-loss push my-run predictions.csv --epoch 0 --create --url ${base}`;
  return h(
    "section",
    { class: "card narrow" },
    h("h1", {}, "No runs yet"),
    h(
      "p",
      {},
      "A run stores the model's logits for each example and the label that the example was given. " +
        "Make the first one from a file with the columns id, label, logit_0, logit_1, …",
    ),
    dropZone(view),
    h("p", {}, "Or push it from a terminal, which takes files of any size:"),
    h("div", { class: "command" }, h("code", {}, command), copyButton(command)),
    h(
      "p",
      { class: "muted" },
      "Columns such as text or image come along with --attributes text,image. ",
      "If the service has keys, the command reads one from FOCAL_LOSS_API_KEY. Then reload this page.",
    ),
    h("p", {}, h("a", { href: "docs" }, "Or push from a training loop: the API")),
  );
}
