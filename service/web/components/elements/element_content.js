// The content of a structured example: its labels, its tokens or its mask, then its other attributes.

import { h } from "../../lib/dom.js";
import { exampleContent, pictureOf } from "../example_content.js";
import { labelChips } from "./label_chips.js";
import { maskView, regionText } from "./mask_view.js";
import { tokenText } from "./token_text.js";

/** @import { Attributes, Classes, Elements, UnitRow } from "../../types.d.ts" */

/**
 * @param {Classes} run
 * @param {UnitRow} row An example, or a unit of it.
 * @param {Elements | null} elements Null if the reply leaves them out because they are too many.
 */
export function elementContent(run, row, elements) {
  return h(
    "div",
    {},
    mainContent(run, row, elements),
    !elements &&
      h(
        "p",
        { class: "muted" },
        "Its elements cannot be shown: they are too many, or the run has only their histogram.",
      ),
    otherAttributes(run, row, elements !== null),
  );
}

/**
 * @param {Classes} run
 * @param {UnitRow} row
 * @param {Elements | null} elements
 */
function mainContent(run, row, elements) {
  if (run.task === "tokens") return tokenText(run, row, elements);
  if (!elements) return row.unit !== null && h("p", {}, regionText(run, row));
  return run.task === "masks" ? maskView(run, row, elements) : labelChips(run, row, elements);
}

/**
 * The attributes that the main content does not show; nothing if it shows all.
 *
 * @param {Classes} run
 * @param {UnitRow} row
 * @param {boolean} isDrawn True if the main content is drawn from the elements.
 */
function otherAttributes(run, { id, attributes }, isDrawn) {
  const isShown = (/** @type {string} */ name, /** @type {unknown} */ value) =>
    run.task === "tokens"
      ? ["text", "tokens"].includes(name)
      : run.task === "masks" && isDrawn && pictureOf(name, value);
  /** @type {Attributes} */
  const others = Object.fromEntries(Object.entries(attributes).filter(([name, value]) => !isShown(name, value)));
  return Object.keys(others).length > 0 && exampleContent({ id, attributes: others }, { all: true });
}
