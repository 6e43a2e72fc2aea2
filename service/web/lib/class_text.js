// Classes in requests.

/** @import { Classes } from "../types.d.ts" */

/**
 * A class as the API takes it in a text: by its name if the run has class names, since one class may have the number of
 * another as its name.
 *
 * @param {Pick<Classes, "class_names">} run
 * @param {number | string} label The number of the class.
 */
export function classText(run, label) {
  return run.class_names?.[Number(label)] ?? String(label);
}
