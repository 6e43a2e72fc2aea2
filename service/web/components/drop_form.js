// The dialog that makes a run from files.

import { Problem } from "../lib/api.js";
import { announce, dialog, h, problem } from "../lib/dom.js";
import { toRun } from "../lib/route.js";
import { classNames, rowText, sizeText, uploadFiles, validName } from "../lib/run_upload.js";
import { getRuns } from "../lib/runs_api.js";

/** @import { Run, View } from "../types.d.ts" */

const MAX_ERRORS = 5;

/**
 * Ask for the name of the run and its settings, then upload the files.
 *
 * @param {File[]} files
 * @param {View} view
 * @param {HTMLElement} notice Gets the error if the runs cannot be read.
 */
export async function askForRun(files, view, notice) {
  let runs;
  try {
    runs = await getRuns(view.signal);
  } catch (error) {
    if (!view.refused(error)) notice.replaceChildren(problem(error));
    return;
  }
  const form = runForm(files, runs);
  const faults = h("div", {});
  const bar = h("progress", { id: "drop-sent", max: 1, value: 0 });
  const status = h("label", { for: "drop-sent" });
  const progress = h("div", { hidden: true }, status, bar);
  const cancel = h("button", { type: "button" }, "Cancel");
  const element = h(
    "form",
    { class: "drop-form" },
    h("h2", {}, files.length === 1 ? "A run from a file" : `A run from ${files.length} files`),
    h("ul", { class: "files" }, files.map((file) => h("li", {}, file.name, " ", h("small", {}, sizeText(file.size))))),
    form.fields,
    faults,
    progress,
    h("div", { class: "buttons" }, cancel, form.submit),
  );
  /** @type {(text: string, share: number | null) => void} */
  const report = (text, share) => {
    if (status.textContent !== text) status.textContent = text;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
  let work = new AbortController();
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    work = new AbortController();
    faults.replaceChildren();
    form.fields.disabled = form.submit.disabled = true;
    progress.hidden = false;
    cancel.focus();
    const values = form.values();
    try {
      await uploadFiles({ ...values, files, signal: work.signal, report });
      box.close();
      location.hash = toRun(values.run);
    } catch (error) {
      if (error.name === "AbortError") announce("It was cancelled.");
      else if (!view.refused(error)) faults.replaceChildren(uploadProblem(error, { ...values, file: files[0].name }));
      form.fields.disabled = form.submit.disabled = false;
      progress.hidden = true;
      form.submit.focus();
    }
  });
  const box = dialog("Make a run from a file", element);
  cancel.addEventListener("click", () => box.close());
  box.addEventListener("close", () => work.abort());
  view.signal.addEventListener("abort", () => box.close());
  form.name.select();
}

/**
 * The fields of the form. The settings of the run are hidden if the run exists.
 *
 * @param {File[]} files
 * @param {Run[]} runs
 */
function runForm(files, runs) {
  const name = h("input", {
    id: "drop-run",
    required: true,
    maxlength: 100,
    autocomplete: "off",
    pattern: "[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*",
    title: "Letters A–Z and a–z, digits, _, - and ., which cannot come first",
    value: validName(files[0].name.replace(/\.[^.]*$/, "")),
  });
  const epoch = h("input", { id: "drop-epoch", type: "number", min: 0, required: true, value: 0 });
  const classes = h("textarea", { id: "drop-classes", rows: 2, "aria-describedby": "drop-hint" });
  const classFile = h("input", {
    id: "drop-class-file",
    type: "file",
    accept: ".txt,.csv,text/plain",
    onchange: async () => {
      classes.value = await classFile.files?.[0]?.text() ?? "";
    },
  });
  const gamma = h("input", { id: "drop-gamma", type: "number", min: 0, step: "any", required: true, value: 2 });
  const settings = h(
    "div",
    {},
    h(
      "div",
      { class: "pair" },
      h("div", {}, h("label", { for: "drop-classes" }, "Class names, one per line"), classes),
      h("div", {}, h("label", { for: "drop-gamma" }, "Gamma"), gamma),
    ),
    h("p", { class: "hint", id: "drop-hint" }, "Optional, class 0 first. In a single line, commas separate them."),
    h("div", {}, h("label", { for: "drop-class-file" }, "Or a text file with class names"), classFile),
  );
  const note = h("p", { class: "hint", "aria-live": "polite" });
  const submit = h("button", { class: "primary", type: "submit" });
  const fields = h(
    "fieldset",
    {},
    h(
      "div",
      { class: "pair" },
      h("div", {}, h("label", { for: "drop-run" }, "Name of the run"), name),
      h("div", {}, h("label", { for: "drop-epoch" }, "Epoch"), epoch),
    ),
    note,
    settings,
  );
  const existing = () => runs.find((run) => run.run === name.value);
  const refresh = () => {
    const run = existing();
    settings.hidden = Boolean(run);
    submit.textContent = run ? "Add to the run" : "Make the run";
    epoch.value = String((run?.epochs.at(-1)?.epoch ?? -1) + 1);
    note.textContent = run ? `There is a run ${run.run}: it gets another epoch. Its settings stay the same.` : "";
  };
  name.addEventListener("input", refresh);
  refresh();
  const values = () => {
    const names = classNames(classes.value);
    const newRun = { config: { gamma: Number(gamma.value) }, ...(names.length && { class_names: names }) };
    return { run: name.value, epoch: Number(epoch.value), newRun: existing() ? null : newRun };
  };
  return { fields, name, submit, values };
}

/**
 * The error of an upload, its place, and the command that helps if the file is too large.
 *
 * @param {Error} error
 * @param {{ run: string, epoch: number, file: string }} upload
 */
function uploadProblem(error, { run, epoch, file }) {
  const notice = problem(error);
  if (!(error instanceof Problem)) return notice;
  const others = error.errors.slice(1, MAX_ERRORS);
  if (others.length) {
    notice.append(h("ul", {}, others.map(({ loc, msg }) => h("li", {}, `${rowText(loc)} ${msg}`.trim()))));
  }
  if (error.errors.some(({ loc }) => rowText(loc))) {
    notice.append(h("p", {}, "Rows are counted from 0, without the header."));
  }
  if ((error.status === 413 && error.code !== "run_full") || error.status === 408) {
    const base = new URL(".", location.href).href.replace(/\/$/, "");
    notice.append(
      h("p", {}, "The command sends a file of any size, in pieces: "),
      h("code", {}, `focal-loss push ${run} ${file} --epoch ${epoch} --create --url ${base}`),
    );
  }
  return notice;
}
