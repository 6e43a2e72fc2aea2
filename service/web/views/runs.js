// All runs: what a team keeps, how much of it has been looked at, and what that found.

import { call, get, path } from "../lib/api.js";
import { announce, dialog, h, head, number, percent, problem } from "../lib/dom.js";
import { dropZone } from "../components/drop.js";
import { copyButton } from "../components/parts.js";
import { address, toRun } from "../lib/route.js";

export async function runsView(view) {
  const { signal } = view;
  const { runs } = await get("runs", signal);
  if (runs.length === 0) return empty(view);
  const told = h("div", {});
  const body = h("tbody", {});
  const seen = watcher(signal);
  const ticked = comparison(runs);
  const section = h(
    "section",
    {},
    h("h1", {}, "Runs"),
    h("p", { class: "lead" }, "A run is what a model said of a data set. Open one to find labels that may be wrong."),
    told,
    dropZone(view),
    ticked.bar,
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
  for (const run of runs) body.append(row(run, told, seen, view, ticked.box(run)));
  return section;
}

function row(run, told, seen, view, box) {
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
      h("button", {
        class: "quiet danger",
        type: "button",
        "aria-label": `Delete run ${run.run}`,
        onclick: () => askToDelete(run, element, told, view),
      }, "Delete"),
    ),
  );
  if (run.num_examples === 0) loss.textContent = wrong.textContent = "–";
  else {
    seen(element, async (signal) => {
      const found = await get(path("runs", run.run, "diagnostics"), signal).catch(() => null);
      loss.textContent = number(found?.loss.mean, 3);
      wrong.textContent = number(found?.label_errors?.estimated);
    });
  }
  return element;
}

/** Two runs to tick; the older one is what was before. */
function comparison(runs) {
  const boxes = new Map();
  const chosen = () => runs.filter((run) => boxes.get(run)?.isConnected && boxes.get(run).checked);
  const hint = h("span", { class: "muted", role: "status" });
  const button = h("button", {
    type: "button",
    onclick: () => {
      tell();
      if (button.disabled) return;
      const [before, after] = chosen().sort((a, b) => Date.parse(a.created_at) - Date.parse(b.created_at));
      location.hash = address(["runs", before.run, "compare"], { with: after.run });
    },
  }, "Compare");
  const tell = () => {
    const ticked = chosen().length;
    button.disabled = ticked !== 2;
    const hints = ["Tick two runs to compare them.", "Tick one more.", "", "Tick two runs, not more."];
    hint.textContent = hints[Math.min(ticked, 3)];
  };
  tell();
  for (const run of runs.filter((one) => one.num_examples)) {
    boxes.set(run, h("input", { type: "checkbox", "aria-label": `Compare ${run.run}`, onchange: tell }));
  }
  return { bar: runs.length > 1 && h("div", { class: "compare-runs" }, button, hint), box: (run) => boxes.get(run) };
}

/** Diagnostics read a whole epoch: only for runs that are in view, one after the other. */
function watcher(signal) {
  const work = new Map();
  let last = Promise.resolve();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting && work.has(one.target))) {
      const job = work.get(entry.target);
      work.delete(entry.target);
      last = last.then(() => (signal.aborted ? null : job(signal)));
    }
  });
  signal.addEventListener("abort", () => observer.disconnect());
  return (element, job) => {
    work.set(element, job);
    observer.observe(element);
  };
}

function askToDelete(run, element, told, view) {
  const content = h(
    "form",
    { method: "dialog" },
    h("h2", {}, `Delete ${run.run}?`),
    h(
      "p",
      {},
      `${number(run.num_rows)} rows, its queues and ${number(run.reviews.num_reviewed)} verdicts go with it. ` +
        "It cannot be brought back.",
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { value: "", autofocus: true }, "Keep it"),
      h("button", { value: "delete", class: "primary danger" }, "Delete for good"),
    ),
  );
  dialog(`Delete ${run.run}?`, content, async () => {
    try {
      await call("DELETE", path("runs", run.run));
      element.remove();
      announce(`${run.run} is deleted.`);
      if (!document.querySelector("tbody tr")) document.getElementById("main").replaceChildren(empty(view));
    } catch (error) {
      if (!view.refused(error)) told.replaceChildren(problem(error));
    }
  });
}

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
      "A run keeps what a model said of each example: its logits and the label it was given. " +
        "Make the first one from a file with the columns id, label, logit_0, logit_1, …",
    ),
    dropZone(view),
    h("p", {}, "Or push it from a terminal, which takes files of any size:"),
    h("div", { class: "command" }, h("code", {}, command), copyButton(command)),
    h(
      "p",
      { class: "muted" },
      "Columns such as text or image come along with --attributes text,image. ",
      "Where keys are set, the command reads one from FOCAL_LOSS_API_KEY. Then reload this page.",
    ),
    h("p", {}, h("a", { href: "docs" }, "Or push from a training loop: the API")),
  );
}
