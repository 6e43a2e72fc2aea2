// The export of a queue or an epoch for another tool, with a preview of its first rows.

import { pictureOf } from "../components/example_content.js";
import { configCard, previewRows, validationNotice } from "../components/export_preview.js";
import { runHead } from "../components/layout.js";
import { getText, path } from "../lib/api.js";
import { h, number, problem } from "../lib/dom.js";
import { DEFAULT_FORMAT, defaultValues, exportParameters, fieldsOf, FORMATS } from "../lib/export_fields.js";
import { address } from "../lib/route.js";
import { getExamples, getExportPreview, getQueues, getRun } from "../lib/runs_api.js";

/** @import { ExampleRow, ExportPreview, Queue, Run, View } from "../types.d.ts" */
/** @import { Field } from "../lib/export_fields.js" */

const TYPING_MS = 250;
/** Number of examples whose attributes set the defaults of the fields. */
const SAMPLE_ROWS = 20;
const CONFIG_PARAMETERS = ["from_name", "to_name", "data_key", "object_tag", "mask_tag"];

/** @param {View} view */
export async function exportView(view) {
  const { parts, signal } = view;
  const name = parts[1];
  const [run, queues] = await Promise.all([getRun(name, signal), getQueues(name, signal)]);
  if (!run.num_examples) {
    return h(
      "section",
      {},
      runHead(name, "export"),
      h("p", { class: "card muted" }, "The run has no examples yet: there is nothing to export."),
    );
  }
  const sample = await getExamples(name, { limit: SAMPLE_ROWS }, signal);
  const page = new ExportPage(run, queues, sample.rows, view);
  page.update();
  return page.element;
}

class ExportPage {
  /**
   * @param {Run} run
   * @param {Queue[]} queues
   * @param {ExampleRow[]} sample
   * @param {View} view
   */
  constructor(run, queues, sample, { query, signal, refused }) {
    this.run = run;
    this.signal = signal;
    this.refused = refused;
    /** The request in progress. */
    this.loading = new AbortController();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {Map<string, boolean>} */
    this.opened = new Map();
    /** @type {Record<string, string>} */
    this.values = {
      ...defaultValues(sample, pictureOf, run.task),
      format: DEFAULT_FORMAT,
      queue: "",
      epoch: "",
      ...Object.fromEntries(query),
    };
    if (!FORMATS[this.values.format]) this.values.format = DEFAULT_FORMAT;
    this.attributeNames = [...new Set(sample.flatMap((row) => Object.keys(row.attributes || {})))].sort();
    this.notice = h("div", { "aria-live": "polite" });
    this.rows = h("div", { class: "export-rows" });
    this.config = h("div", {});
    this.download = h("a", { class: "button primary", download: true });
    this.fields = h("div", {});
    this.element = h(
      "section",
      {},
      runHead(run.run, "export"),
      h("p", { class: "lead" }, "Export the examples in the order of review. This changes nothing in the run."),
      h(
        "div",
        { class: "export" },
        h(
          "form",
          { class: "card", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
          this.#formatChoice(),
          this.#rowsChoice(queues),
          this.fields,
        ),
        h(
          "div",
          {},
          h("div", { class: "export-head" }, h("h2", {}, "The first rows of the file"), this.download),
          this.notice,
          this.rows,
          this.config,
        ),
      ),
    );
    this.#showFields();
    signal.addEventListener("abort", () => this.loading.abort());
  }

  #formatChoice() {
    const choose = (/** @type {string} */ format) => {
      this.values.format = format;
      this.#showFields();
      this.update();
    };
    return h(
      "fieldset",
      { class: "targets" },
      h("legend", {}, "For"),
      Object.entries(FORMATS).filter(([, { without }]) => without !== this.run.task).map((
        [format, { name, description }],
      ) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: "format",
            value: format,
            checked: format === this.values.format,
            onchange: () => choose(format),
          }),
          h("span", {}, h("strong", {}, name), h("small", {}, description)),
        )
      ),
    );
  }

  /** @param {Queue[]} queues */
  #rowsChoice(queues) {
    const { run, values } = this;
    const choices = queues.map(({ name, num_rows }) => ({ name, num_rows }));
    // The service reports that the queue of the address does not exist.
    if (values.queue && !choices.some(({ name }) => name === values.queue)) {
      choices.unshift({ name: values.queue, num_rows: 0 });
    }
    const queue = h(
      "select",
      { id: "export-queue" },
      h("option", { value: "" }, `All ${number(run.num_examples)} examples, the largest loss first`),
      choices.map(({ name, num_rows }) => h("option", { value: name }, `Queue ${name} (${number(num_rows)} rows)`)),
    );
    const epoch = h(
      "select",
      { id: "export-epoch" },
      run.epochs.map(({ epoch }) => epoch).toReversed().map((epoch, place) =>
        h("option", { value: place ? epoch : "" }, place ? `Epoch ${epoch}` : `Epoch ${epoch}, the last`)
      ),
    );
    queue.value = values.queue;
    epoch.value = values.epoch;
    if (epoch.selectedIndex < 0) epoch.value = values.epoch = "";
    const epochField = h("div", {}, h("label", { for: "export-epoch" }, "Scores of"), epoch);
    const refresh = () => {
      epochField.hidden = Boolean(queue.value) || run.epochs.length < 2;
    };
    queue.addEventListener("change", () => {
      values.queue = queue.value;
      refresh();
      this.update();
    });
    epoch.addEventListener("change", () => {
      values.epoch = epoch.value;
      this.update();
    });
    refresh();
    return [h("label", { for: "export-queue" }, "What"), queue, epochField];
  }

  #showFields() {
    this.fields.replaceChildren(
      ...fieldsOf(this.values.format, this.run.task).flatMap((field) => this.#field(field)),
      h("datalist", { id: "export-attributes" }, this.attributeNames.map((value) => h("option", { value }))),
    );
  }

  /** @param {Field} field */
  #field({ key, label, meaning, choices }) {
    const id = `export-${key}`;
    const common = { id, "aria-describedby": `${id}-meaning` };
    const list = key.endsWith("_key") && "export-attributes";
    const input = choices
      ? h("select", common, choices.map((value) => h("option", { value }, value)))
      : h("input", { ...common, autocomplete: "off", spellcheck: "false", list });
    input.value = this.values[key];
    input.addEventListener("input", () => {
      this.values[key] = input.value.trim();
      this.#updateLater();
    });
    return [h("label", { for: id }, label), input, h("p", { class: "muted", id: `${id}-meaning` }, meaning)];
  }

  /** Update the preview after a pause in typing. */
  #updateLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), TYPING_MS);
  }

  /** Load and show the preview. A later call cancels this one. */
  async update() {
    clearTimeout(this.timer);
    if (this.signal.aborted) return;
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    const parameters = exportParameters(this.values, this.run.task);
    const url = path("runs", this.run.run);
    const query = new URLSearchParams(parameters);
    // While the view is loading, the address already has these parameters.
    if (this.element.isConnected) history.replaceState(null, "", address(["runs", this.run.run, "export"], parameters));
    this.rows.setAttribute("aria-busy", "true");
    const configQuery = new URLSearchParams(
      Object.entries(parameters).filter(([name]) => CONFIG_PARAMETERS.includes(name)),
    );
    try {
      const [preview, config] = await Promise.all([
        getExportPreview(this.run.run, query, signal),
        parameters.format === "label-studio" ? getText(`${url}/label-studio/config?${configQuery}`, signal) : null,
      ]);
      this.#show(preview, `${url}/export?${query}`, config);
    } catch (error) {
      if (error.name !== "AbortError" && !this.refused(error)) this.#showProblem(error);
    }
    if (!signal.aborted) this.rows.removeAttribute("aria-busy");
  }

  /** @param {Error} error */
  #showProblem(error) {
    this.notice.replaceChildren(problem(error));
    this.rows.replaceChildren();
    this.config.replaceChildren();
    this.download.hidden = true;
  }

  /**
   * @param {ExportPreview} preview
   * @param {string} href Of the file.
   * @param {string | null} config
   */
  #show(preview, href, config) {
    this.download.hidden = false;
    this.download.href = href;
    this.download.textContent = `Download ${preview.file_name}`;
    const notes = preview.notes.map((note) => h("li", {}, note));
    this.notice.replaceChildren(validationNotice(preview), h("ul", { class: "notes" }, notes));
    this.rows.replaceChildren(...previewRows(preview, this.opened));
    this.config.replaceChildren(...(config === null ? [] : [configCard(config)]));
  }
}
