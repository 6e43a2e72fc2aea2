// A queue or an epoch as a file for a tool: what for, under which names, and its first rows before anyone loads them.

import { get, path, text } from "../lib/api.js";
import { h, number, problem } from "../lib/dom.js";
import { json } from "../lib/json.js";
import { copyButton, pictureOf, runHead } from "../components/parts.js";
import { address } from "../lib/route.js";

const TYPING_MS = 250;
const SAMPLE = 20; // rows that are looked at for what the examples are
const TARGETS = {
  "label-studio": ["Label Studio", "Tasks with the model's label as prediction, in the order of review."],
  argilla: ["Argilla", "Records with a suggestion, for the Python SDK."],
  fiftyone: ["FiftyOne", "Labels of an image data set, the given label beside the model's."],
  csv: ["CSV", "A table for spreadsheets; fill in verdicts and send them back."],
  jsonl: ["JSONL", "One object a line, for scripts."],
  parquet: ["Parquet", "A typed table for pandas, DuckDB, Spark."],
};
// Each with its name in the address and the API, its label, what it means, and the formats that it goes with.
const FIELDS = [
  ["from_name", "Control name", "The name of Choices in the labelling configuration.", ["label-studio"]],
  ["from_name", "Question", "The name of the label question in the data set's settings.", ["argilla"]],
  ["to_name", "Object name", "The name of what is shown in the labelling configuration.", ["label-studio"]],
  ["to_name", "Field", "The name of the field in the data set's settings.", ["argilla"]],
  ["object_tag", "Object tag", "What the tool shows it as.", ["label-studio"], ["Text", "Image", "Audio", "HyperText"]],
  ["data_key", "Data attribute", "The attribute that is shown.", ["label-studio", "argilla"]],
  ["image_key", "Image attribute", "The attribute with the path or address of the image.", ["fiftyone"]],
  ["image_root", "Image root", "What a path begins with before the data folder; may be empty.", ["fiftyone"]],
];

export async function exportView({ parts, query, signal, refused }) {
  const name = parts[1];
  const [run, { queues }] = await Promise.all([
    get(path("runs", name), signal),
    get(path("runs", name, "queues"), signal),
  ]);
  if (!run.num_examples) {
    return h(
      "section",
      {},
      runHead(name, "export"),
      h("p", { class: "card muted" }, "The run has no examples yet: there is nothing to export."),
    );
  }
  const sample = await get(`${path("runs", name, "examples")}?limit=${SAMPLE}`, signal);
  return new ExportPage(run, queues, sample.rows, { query, signal, refused }).element;
}

/** What the fields hold before anybody has chosen: what the run's examples look like. */
function defaults(rows) {
  const attributes = rows.flatMap((row) => Object.entries(row.attributes || {}));
  const picture = attributes.find(([key, value]) => pictureOf(key, value))?.[0];
  const words = attributes.some(([key]) => key === "text")
    ? "text"
    : attributes.find(([, value]) => typeof value === "string")?.[0];
  return {
    from_name: "label",
    to_name: picture ? "image" : "text",
    object_tag: picture ? "Image" : "Text",
    data_key: picture || words || "text",
    image_key: picture || "image",
    image_root: "",
  };
}

class ExportPage {
  constructor(run, queues, sample, { query, signal, refused }) {
    Object.assign(this, { run, queues, signal, refused, inputs: {}, opened: new Map(), asked: null });
    const given = Object.fromEntries(query);
    this.values = { ...defaults(sample), format: "label-studio", queue: "", epoch: "", ...given };
    if (!TARGETS[this.values.format]) this.values.format = "label-studio";
    // What stands in the address and has no field here (another gamma, say) stays in it.
    this.kept = Object.fromEntries(Object.entries(given).filter(([key]) => ["alpha", "gamma"].includes(key)));
    this.names = [...new Set(sample.flatMap((row) => Object.keys(row.attributes || {})))].sort();
    this.told = h("div", { "aria-live": "polite" });
    this.rows = h("div", { class: "export-rows" });
    this.config = h("div", {});
    this.download = h("a", { class: "button primary", download: true });
    this.fields = h("div", {});
    this.element = h(
      "section",
      {},
      runHead(run.run, "export"),
      h("p", { class: "lead" }, "Hand the examples over in the order of review. Nothing is changed here by it."),
      h(
        "div",
        { class: "export" },
        h(
          "form",
          { class: "card", onsubmit: (event) => event.preventDefault() },
          this.#targets(),
          this.#what(),
          this.fields,
        ),
        h(
          "div",
          {},
          h("div", { class: "export-head" }, h("h2", {}, "The first rows of the file"), this.download),
          this.told,
          this.rows,
          this.config,
        ),
      ),
    );
    this.#showFields();
    this.update();
  }

  #targets() {
    return h(
      "fieldset",
      { class: "targets" },
      h("legend", {}, "For"),
      Object.entries(TARGETS).map(([format, [name, what]]) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: "format",
            value: format,
            checked: format === this.values.format,
            onchange: () => {
              this.values.format = format;
              this.#showFields();
              this.update();
            },
          }),
          h("span", {}, h("strong", {}, name), h("small", {}, what)),
        )
      ),
    );
  }

  #what() {
    const { run, values } = this;
    const epochs = run.epochs.map((one) => one.epoch);
    if (values.queue && !this.queues.some((one) => one.name === values.queue)) {
      // Said by the service, in its own words, until another one is chosen.
      this.queues = [{ name: values.queue, num_rows: 0 }, ...this.queues];
    }
    const queue = h(
      "select",
      { id: "export-queue" },
      h("option", { value: "" }, `All ${number(run.num_examples)} examples, the largest loss first`),
      this.queues.map((one) => h("option", { value: one.name }, `Queue ${one.name} (${number(one.num_rows)} rows)`)),
    );
    const epoch = h(
      "select",
      { id: "export-epoch" },
      epochs.toReversed().map((one, place) =>
        h("option", { value: place ? one : "" }, place ? `Epoch ${one}` : `Epoch ${one}, the last`)
      ),
    );
    queue.value = values.queue;
    epoch.value = values.epoch;
    if (epoch.selectedIndex < 0) epoch.value = values.epoch = "";
    const whole = h("div", {}, h("label", { for: "export-epoch" }, "Scores of"), epoch);
    const show = () => {
      whole.hidden = Boolean(queue.value) || epochs.length < 2;
    };
    queue.addEventListener("change", () => {
      values.queue = queue.value;
      show();
      this.update();
    });
    epoch.addEventListener("change", () => {
      values.epoch = epoch.value;
      this.update();
    });
    show();
    return [h("label", { for: "export-queue" }, "What"), queue, whole];
  }

  #showFields() {
    const { values } = this;
    this.fields.replaceChildren(
      ...FIELDS.filter(([, , , formats]) => formats.includes(values.format)).flatMap(
        ([key, label, meaning, , choices]) => {
          const id = `export-${key}`;
          const common = { id, "aria-describedby": `${id}-meaning` };
          const listed = key.endsWith("_key");
          const input = choices
            ? h("select", common, choices.map((one) => h("option", { value: one }, one)))
            : h("input", { ...common, autocomplete: "off", spellcheck: "false", list: listed && "export-attributes" });
          input.value = values[key];
          input.addEventListener("input", () => {
            values[key] = input.value.trim();
            this.later();
          });
          return [h("label", { for: id }, label), input, h("p", { class: "muted", id: `${id}-meaning` }, meaning)];
        },
      ),
      h("datalist", { id: "export-attributes" }, this.names.map((one) => h("option", { value: one }))),
    );
  }

  /** What goes to the service, and stands in the address. */
  asking() {
    const { values } = this;
    const used = FIELDS.filter(([, , , formats]) => formats.includes(values.format)).map(([key]) => key);
    const whole = values.queue ? { queue: values.queue } : { epoch: values.epoch };
    const named = Object.fromEntries(used.map((key) => [key, values[key]]));
    const all = { format: values.format, ...whole, ...this.kept, ...named };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), TYPING_MS);
  }

  /** Ask for the first rows; an answer to what is no longer asked is dropped. */
  async update() {
    clearTimeout(this.timer);
    if (this.signal.aborted) return;
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.signal.addEventListener("abort", () => this.asked.abort(), { signal });
    const asking = this.asking();
    const where = path("runs", this.run.run);
    const words = new URLSearchParams(asking).toString();
    // The view may not be the one in the window yet: then its address is there already.
    if (this.element.isConnected) history.replaceState(null, "", address(["runs", this.run.run, "export"], asking));
    this.rows.setAttribute("aria-busy", "true");
    try {
      const [found, config] = await Promise.all([
        get(`${where}/export/preview?${words}`, signal),
        asking.format === "label-studio" ? text(`${where}/label-studio/config?${configWords(asking)}`, signal) : null,
      ]);
      this.#show(found, `${where}/export?${words}`, config);
    } catch (error) {
      if (error.name !== "AbortError" && !this.refused(error)) this.#fail(error);
    }
    if (!signal.aborted) this.rows.removeAttribute("aria-busy");
  }

  #fail(error) {
    this.told.replaceChildren(problem(error));
    this.rows.replaceChildren();
    this.config.replaceChildren();
    this.download.hidden = true;
  }

  #show(found, file, config) {
    this.download.hidden = false;
    this.download.href = file;
    this.download.textContent = `Download ${found.file_name}`;
    this.told.replaceChildren(verdict(found), h("ul", { class: "notes" }, found.notes.map((one) => h("li", {}, one))));
    const count = `${number(found.rows.length)} of ${number(found.num_rows)} ${found.num_rows === 1 ? "row" : "rows"}`;
    this.rows.replaceChildren(
      h("p", { class: "muted count" }, count),
      ["csv", "parquet"].includes(found.format) ? table(found) : h(
        "div",
        { class: "card json" },
        found.rows.map((row, place) => json(row, `Row ${place + 1}`, { open: place === 0, opened: this.opened })),
      ),
    );
    this.config.replaceChildren(...(config === null ? [] : [configCard(config)]));
  }
}

const configWords = ({ from_name, to_name, data_key, object_tag }) => {
  const known = Object.entries({ from_name, to_name, data_key, object_tag }).filter(([, value]) => value !== undefined);
  return new URLSearchParams(known);
};

/** Who has looked at the rows, and what they say. */
function verdict({ validator, rows }) {
  const notice = (kind, title, ...more) => h("div", { class: `notice ${kind}` }, h("strong", {}, title), more);
  if (!validator) {
    return notice(
      "warn",
      "Not checked",
      h("p", {}, "Nobody has looked at these rows; see below how to have them checked."),
    );
  }
  const all = rows.length === 1 ? "the row" : `all ${number(rows.length)} rows`;
  const { name, version, accepted, refused } = validator;
  const tool = version ? `${name} ${version}` : name;
  const who = {
    label_studio_sdk: `Label Studio's own validator (${tool})`,
    "documented format": "The check of the documented format",
  }[name] || `${tool}, reading them back,`;
  if (!refused.length) return notice("good", "Accepted", h("p", {}, `${who} takes ${all} shown.`));
  return notice(
    "bad",
    accepted ? "Some rows are refused" : "Refused",
    h("p", {}, `${who} refuses ${number(refused.length)} of ${number(rows.length)} rows shown.`),
    h("ul", {}, refused.map((one) => h("li", {}, `Row ${one.row} (${one.id || "no id"}): ${one.reason}`))),
  );
}

/** A flat file, a line for each column: the rows are few, the columns many. */
function table({ columns, rows }) {
  const region = { class: "card table-card", tabindex: 0, role: "region", "aria-label": "The first rows" };
  return h(
    "div",
    region,
    h(
      "table",
      { class: "flat" },
      h("caption", { class: "hidden-text" }, "The first rows, one in each column"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Column"),
          rows.map((_, place) => h("th", { scope: "col" }, `Row ${place + 1}`)),
        ),
      ),
      h(
        "tbody",
        {},
        columns.map((name) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("code", {}, name)),
            rows.map((row) => h("td", { dir: "auto" }, cell(row[name]))),
          )
        ),
      ),
    ),
  );
}

function cell(value) {
  if (value === null || value === "") return h("span", { class: "muted" }, "empty");
  const words = String(value);
  return words.length > 300 ? `${words.slice(0, 300)} …` : words;
}

function configCard(config) {
  return h(
    "section",
    { class: "card" },
    h("div", { class: "export-head" }, h("h2", {}, "Labelling configuration"), copyButton(config)),
    h(
      "p",
      { class: "muted" },
      "Put it into the project's settings, Labeling Interface, Code: " +
        "it has the names and classes of this file.",
    ),
    h("pre", { tabindex: 0, role: "region", "aria-label": "Labelling configuration" }, h("code", {}, config)),
  );
}
