// The formats of an export and their fields.

/** @import { Attributes } from "../types.d.ts" */
/** @typedef {Record<string, string>} Values The parameters of an export, by name. */
/**
 * A field of the form.
 *
 * @typedef {object} Field
 * @property {string} key The parameter of the API and the address.
 * @property {string} label
 * @property {string} meaning
 * @property {string[]} formats
 * @property {string} [task] The only task of runs that the field is for.
 * @property {string[]} [choices] The values of a `select`.
 */

/** @type {Record<string, { name: string, description: string, without?: string }>} Without: a task that it lacks. */
export const FORMATS = {
  "label-studio": {
    name: "Label Studio",
    description: "Tasks with the model's label as prediction, in the order of review.",
  },
  argilla: { name: "Argilla", description: "Records with a suggestion, for the Python SDK.", without: "masks" },
  fiftyone: {
    name: "FiftyOne",
    description: "Labels of an image data set: the given label and the model's.",
    without: "tokens",
  },
  csv: { name: "CSV", description: "A table for spreadsheets; fill in verdicts and send them back." },
  jsonl: { name: "JSONL", description: "One object a line, for scripts." },
  parquet: { name: "Parquet", description: "A typed table for pandas, DuckDB, Spark." },
};
export const DEFAULT_FORMAT = "label-studio";

/** @type {Field[]} */
const FIELDS = [
  {
    key: "from_name",
    label: "Control name",
    meaning: "The name of the control with the labels in the labelling configuration.",
    formats: ["label-studio"],
  },
  {
    key: "from_name",
    label: "Question",
    meaning: "The name of the label question in the data set's settings.",
    formats: ["argilla"],
  },
  {
    key: "to_name",
    label: "Object name",
    meaning: "The name of the object tag in the labelling configuration.",
    formats: ["label-studio"],
  },
  {
    key: "to_name",
    label: "Field",
    meaning: "The name of the field in the data set's settings.",
    formats: ["argilla"],
  },
  {
    key: "object_tag",
    label: "Object tag",
    meaning: "The tag that shows the example.",
    formats: ["label-studio"],
    choices: ["Text", "Image", "Audio", "HyperText"],
  },
  {
    key: "mask_tag",
    label: "Mask tag",
    meaning: "The tag for regions: brushes need a mask of the picture's size, polygons do not.",
    formats: ["label-studio"],
    task: "masks",
    choices: ["BrushLabels", "PolygonLabels"],
  },
  {
    key: "data_key",
    label: "Data attribute",
    meaning: "The attribute that the tool shows.",
    formats: ["label-studio", "argilla"],
  },
  {
    key: "image_key",
    label: "Image attribute",
    meaning: "The attribute with the path or address of the image.",
    formats: ["fiftyone"],
  },
  {
    key: "image_root",
    label: "Image root",
    meaning: "The start of each path, before the data folder; may be empty.",
    formats: ["fiftyone"],
  },
];

/**
 * @param {string} format
 * @param {string} task Task of the run.
 */
export const fieldsOf = (format, task) =>
  FIELDS.filter((field) => field.formats.includes(format) && (!field.task || field.task === task));

/**
 * Values of the fields that fit the attributes of the run's examples.
 *
 * @param {{ attributes: Attributes }[]} rows
 * @param {(name: string, value: unknown) => unknown} isPicture True if an attribute holds a picture.
 * @param {string} task Task of the run.
 * @returns {Values}
 */
export function defaultValues(rows, isPicture, task) {
  const attributes = rows.flatMap((row) => Object.entries(row.attributes || {}));
  const picture = attributes.find(([name, value]) => isPicture(name, value))?.[0];
  const text = attributes.some(([name]) => name === "text")
    ? "text"
    : attributes.find(([, value]) => typeof value === "string")?.[0];
  const isImage = task === "masks" || (picture && task !== "tokens");
  return {
    from_name: "label",
    to_name: isImage ? "image" : "text",
    object_tag: isImage ? "Image" : "Text",
    mask_tag: "BrushLabels",
    data_key: picture || (task === "masks" ? "image" : text || "text"),
    image_key: picture || "image",
    image_root: "",
  };
}

/**
 * The parameters of an export. Empty ones are left out, and so are fields of other formats.
 *
 * @param {Values} values
 * @param {string} task Task of the run.
 */
export function exportParameters(values, task) {
  const { format, queue, epoch, alpha = "", gamma = "" } = values;
  const rows = queue ? { queue } : { epoch };
  const fields = Object.fromEntries(fieldsOf(format, task).map(({ key }) => [key, values[key]]));
  const all = { format, ...rows, alpha, gamma, ...fields };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}
