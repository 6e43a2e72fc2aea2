// Classes in requests.

/** @import { NamedClasses } from "../types.d.ts" */

/**
 * A class as the API takes it in a text: by its name if the run has class names, since one class may have the number of
 * another as its name. The names of a multi-label run are those of its labels, whose classes are 0 and 1.
 *
 * @param {NamedClasses} run
 * @param {number | string} label The number of the class.
 */
export function classText(run, label) {
  const names = run.task === "multi_label" ? null : run.class_names;
  return names?.[Number(label)] ?? String(label);
}
