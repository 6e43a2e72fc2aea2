// Files that are dropped on the list of runs, or chosen there, become a run: one batch for each file.

import { ask, call, get, path, Problem, upload } from "../lib/api.js";
import { announce, dialog, h, number, problem } from "../lib/dom.js";
import { toRun } from "../lib/route.js";

const ARROW = "application/vnd.apache.arrow.file";
const MEDIA_TYPES = {
  parquet: "application/vnd.apache.parquet",
  arrow: ARROW,
  arrows: ARROW,
  feather: ARROW,
  ipc: ARROW,
  csv: "text/csv",
  safetensors: "application/x-safetensors",
};
const ERRORS_SHOWN = 5;

/** A place to drop files on, which is also a button to choose them; while it is there, its whole window takes them. */
export function dropZone(view) {
  const told = h("div", {});
  const input = h("input", {
    type: "file",
    multiple: true,
    hidden: true,
    "aria-label": "Files with predictions",
    accept: Object.keys(MEDIA_TYPES).map((ending) => `.${ending}`).join(","),
  });
  const button = h(
    "button",
    { class: "drop", type: "button", onclick: () => input.click() },
    h("strong", {}, "Drop a file here, or choose one"),
    h("small", {}, "Parquet, Arrow, CSV or safetensors becomes a run. Columns such as text or image come along."),
  );
  const take = (files) => {
    const unknown = files.find((file) => !mediaType(file));
    told.replaceChildren();
    if (unknown) {
      told.append(
        problem({
          title: `${unknown.name} is of no known kind`,
          message: `A run is made of a file that ends with ${Object.keys(MEDIA_TYPES).join(", ")}.`,
        }),
      );
    } else if (files.length) askForRun(files, view, told);
  };
  input.addEventListener("change", () => {
    const files = [...input.files];
    // Or the same file could not be chosen again.
    input.value = "";
    take(files);
  });
  const listen = (name, act) =>
    globalThis.addEventListener(name, (event) => {
      // A list that has been replaced by another has no say any more.
      if (!button.isConnected || !event.dataTransfer?.types.includes("Files")) return;
      // Or the browser would leave the page for the file.
      event.preventDefault();
      act(event);
    }, { signal: view.signal });
  listen("dragover", () => button.classList.add("over"));
  listen("dragleave", (event) => {
    if (!event.relatedTarget) button.classList.remove("over");
  });
  listen("drop", (event) => {
    button.classList.remove("over");
    if (!document.querySelector("dialog[open]")) take([...event.dataTransfer.files]);
  });
  return h("div", {}, button, input, told);
}

const mediaType = (file) => MEDIA_TYPES[file.name.split(".").pop().toLowerCase()];

/** What runs and batches may be called, made of what a file is called. */
const named = (text) => text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|-+$/g, "").slice(0, 90) || "run";

/** The name of each file's batch; two files of one name have two. */
function batchNames(files) {
  const names = files.map((file) => named(file.name));
  return names.map((name, place) => {
    const before = names.slice(0, place).filter((other) => other === name).length;
    return before ? `${name}-${before + 1}` : name;
  });
}

const megabytes = (count) => (count < 1e5 ? `${number(count / 1e3, 2)} kB` : `${number(count / 1e6, 2)} MB`);

async function askForRun(files, view, told) {
  let runs;
  try {
    ({ runs } = await get("runs", view.signal));
  } catch (error) {
    if (!view.refused(error)) told.replaceChildren(problem(error));
    return;
  }
  const name = h("input", {
    id: "drop-run",
    required: true,
    maxlength: 100,
    autocomplete: "off",
    pattern: "[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*",
    title: "A–Z a–z 0–9 . _ -, the first no dot",
    value: named(files[0].name.replace(/\.[^.]*$/, "")),
  });
  const epoch = h("input", { id: "drop-epoch", type: "number", min: 0, required: true, value: 0 });
  const classes = h("textarea", { id: "drop-classes", rows: 2, "aria-describedby": "drop-hint" });
  const gamma = h("input", { id: "drop-gamma", type: "number", min: 0, step: "any", required: true, value: 2 });
  const description = h(
    "div",
    {},
    h(
      "div",
      { class: "pair" },
      h("div", {}, h("label", { for: "drop-classes" }, "Class names"), classes),
      h("div", {}, h("label", { for: "drop-gamma" }, "Gamma"), gamma),
    ),
    h("p", { class: "hint", id: "drop-hint" }, "Optional: one per line or with commas, class 0 first."),
  );
  const note = h("p", { class: "hint", "aria-live": "polite" });
  const fault = h("div", {});
  const sent = h("progress", { id: "drop-sent", max: 1, value: 0 });
  const doing = h("label", { for: "drop-sent" });
  const sending = h("div", { hidden: true }, doing, sent);
  const submit = h("button", { class: "primary", type: "submit" });
  const cancel = h("button", { type: "button" }, "Cancel");
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
    description,
  );
  const known = () => runs.find((run) => run.run === name.value);
  const look = () => {
    const run = known();
    description.hidden = Boolean(run);
    submit.textContent = run ? "Add to the run" : "Make the run";
    epoch.value = run?.epochs.length ? run.epochs.at(-1).epoch + 1 : 0;
    note.textContent = run ? `There is a run ${run.run}: it gets another epoch, and stays what it is otherwise.` : "";
  };
  name.addEventListener("input", look);
  look();
  const form = h(
    "form",
    { class: "drop-form" },
    h("h2", {}, files.length === 1 ? "A run from a file" : `A run from ${files.length} files`),
    h("ul", { class: "files" }, files.map((file) => h("li", {}, file.name, " ", h("small", {}, megabytes(file.size))))),
    fields,
    fault,
    sending,
    h("div", { class: "buttons" }, cancel, submit),
  );
  let work = new AbortController();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    work = new AbortController();
    fault.replaceChildren();
    fields.disabled = submit.disabled = true;
    sending.hidden = false;
    cancel.focus();
    const names = classes.value.split(/[\n,]/).map((text) => text.trim()).filter(Boolean);
    const drop = {
      run: name.value,
      epoch: Number(epoch.value),
      files,
      signal: work.signal,
      description: known()
        ? null
        : { config: { gamma: Number(gamma.value) }, ...(names.length && { class_names: names }) },
      tell: (text, share) => {
        if (doing.textContent !== text) doing.textContent = text;
        if (share === null) sent.removeAttribute("value");
        else sent.value = share;
      },
    };
    try {
      await send(drop);
      element.close();
      location.hash = toRun(drop.run);
    } catch (error) {
      if (error.name === "AbortError") announce("It was cancelled.");
      else if (!view.refused(error)) fault.replaceChildren(complaint(error, drop));
      fields.disabled = submit.disabled = false;
      sending.hidden = true;
      submit.focus();
    }
  });
  const element = dialog("Make a run from a file", form);
  cancel.addEventListener("click", () => element.close());
  element.addEventListener("close", () => work.abort());
  view.signal.addEventListener("abort", () => element.close());
  name.select();
}

/** Make the run if it is new, and send the files one after the other. What it made is gone again if it kept nothing. */
async function send({ run, epoch, files, description, signal, tell }) {
  const where = path("runs", run);
  const names = batchNames(files);
  let made = false;
  let kept = 0;
  try {
    // Not ended by the signal: who knows then whether the run is there?
    if (description) made = (await ask("PUT", where, description)).status === 201;
    for (const [place, file] of files.entries()) {
      const of = files.length > 1 ? `File ${place + 1} of ${files.length}. ` : "";
      const progress = (count) => {
        if (count < file.size) tell(`${of}Sent ${megabytes(count)} of ${megabytes(file.size)}`, count / file.size);
        else tell(`${of}Computing the losses …`, null);
      };
      progress(0);
      signal.throwIfAborted();
      // No score is asked for: the run keeps them.
      const batch = `${where}/epochs/${epoch}/batches/${path(names[place])}?outputs=`;
      const reply = await upload(batch, file, mediaType(file), { progress, signal });
      kept += reply.num_examples;
    }
    if (!kept) throw new Problem(200, { title: "Nothing to keep", detail: "There are no rows in it." });
  } catch (error) {
    if (made && (signal.aborted || !kept)) await call("DELETE", where).catch(() => null);
    throw error;
  }
}

/** Row and class of a value, as the service names its place. */
function rowOf([first, , , row, column]) {
  if (first !== "batches" || row === undefined) return "";
  return `row ${row}${column === undefined ? "" : `, class ${column}`}:`;
}

/** What the service said, where it is, and what helps. */
function complaint(error, { run, epoch, files }) {
  const told = problem(error);
  const others = error.errors.slice(1, ERRORS_SHOWN);
  if (others.length) {
    told.append(h("ul", {}, others.map(({ loc, msg }) => h("li", {}, [rowOf(loc), msg].join(" ").trim()))));
  }
  if (error.errors.some(({ loc }) => rowOf(loc))) {
    told.append(h("p", {}, "Rows are counted from 0, without the line of names."));
  }
  if ((error.status === 413 && error.code !== "run_full") || error.status === 408) {
    const base = new URL(".", location.href).href.replace(/\/$/, "");
    told.append(
      h("p", {}, "The command sends a file of any size, in pieces: "),
      h("code", {}, `focal-loss push ${run} ${files[0].name} --epoch ${epoch} --create --url ${base}`),
    );
  }
  return told;
}
