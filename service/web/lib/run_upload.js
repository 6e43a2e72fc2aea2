// Uploads files as batches of a run.

import { call, path, Problem, request, upload } from "./api.js";
import { number } from "./dom.js";

/** @typedef {{ config: { gamma: number }, class_names?: string[] }} NewRun */
/** @typedef {(text: string, share: number | null) => void} Report Shows the progress; null: of unknown length. */

const ARROW = "application/vnd.apache.arrow.file";
/** @type {Record<string, string>} */
export const MEDIA_TYPES = {
  parquet: "application/vnd.apache.parquet",
  arrow: ARROW,
  arrows: ARROW,
  feather: ARROW,
  ipc: ARROW,
  csv: "text/csv",
  tsv: "text/tab-separated-values",
  safetensors: "application/x-safetensors",
};

/**
 * The media type of a file by the ending of its name, undefined if that is unknown.
 *
 * @param {string} name
 * @param {Record<string, string>} types
 * @returns {string | undefined}
 */
export const mediaTypeOf = (name, types = MEDIA_TYPES) => types[(name.split(".").pop() || "").toLowerCase()];

/**
 * A valid name of a run or batch for a file name.
 *
 * @param {string} text
 */
export const validName = (text) =>
  text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|-+$/g, "").slice(0, 90) || "run";

/**
 * Names of the batches of files. Repeated names get a number.
 *
 * @param {{ name: string }[]} files
 */
export function batchNames(files) {
  const names = files.map((file) => validName(file.name));
  return names.map((name, place) => {
    const before = names.slice(0, place).filter((other) => other === name).length;
    return before ? `${name}-${before + 1}` : name;
  });
}

/**
 * Class names, one in each line. In a single line commas separate them, except between quotes.
 *
 * @param {string} text
 */
export function classNames(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (lines.length !== 1) return lines;
  const parts = lines[0].matchAll(/\s*"((?:[^"]|"")*)"\s*(?=,|$)|[^,]+/g);
  return [...parts].map(([part, quoted]) => (quoted?.replaceAll('""', '"') ?? part).trim()).filter(Boolean);
}

/**
 * A size in kB or MB.
 *
 * @param {number} bytes
 */
export const sizeText = (bytes) => (bytes < 1e5 ? `${number(bytes / 1e3, 2)} kB` : `${number(bytes / 1e6, 2)} MB`);

/**
 * Upload files one after the other, each as a batch. If this call created the run and was cancelled or stored no
 * example, it deletes the run.
 *
 * @param {object} options
 * @param {string} options.run
 * @param {number} options.epoch
 * @param {File[]} options.files
 * @param {NewRun | null} options.newRun Creates the run; null if it exists.
 * @param {AbortSignal} options.signal
 * @param {Report} options.report
 */
export async function uploadFiles({ run, epoch, files, newRun, signal, report }) {
  const url = path("runs", run);
  const names = batchNames(files);
  let created = false;
  let numExamples = 0;
  try {
    // Not aborted by the signal: it would be unknown if the service created the run.
    if (newRun) created = (await request("PUT", url, newRun)).status === 201;
    for (const [place, file] of files.entries()) {
      const prefix = files.length > 1 ? `File ${place + 1} of ${files.length}. ` : "";
      const progress = (/** @type {number} */ bytes) => {
        if (bytes < file.size) report(`${prefix}Sent ${sizeText(bytes)} of ${sizeText(file.size)}`, bytes / file.size);
        else report(`${prefix}Computing the losses …`, null);
      };
      progress(0);
      signal.throwIfAborted();
      // The run stores the scores, so the reply need not return them.
      const batchUrl = `${url}/epochs/${epoch}/batches/${path(names[place])}?outputs=`;
      const reply = await upload(batchUrl, file, mediaTypeOf(file.name) || "", { progress, signal });
      numExamples += reply.num_examples;
    }
    if (!numExamples) throw new Problem(200, { title: "Nothing to keep", detail: "There are no rows in it." });
  } catch (error) {
    if (created && (signal.aborted || !numExamples)) await call("DELETE", url).catch(() => null);
    throw error;
  }
}

/**
 * Row and class of a fault's place, as text.
 *
 * @param {(string | number)[]} loc
 */
export function rowText([first, , , row, column]) {
  if (first !== "batches" || row === undefined) return "";
  return `row ${row}${column === undefined ? "" : `, class ${column}`}:`;
}
