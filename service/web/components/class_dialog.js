// A dialog to choose a class.

import { dialog, h } from "../lib/dom.js";
import { classOptions } from "./labels.js";

/** @import { Classes } from "../types.d.ts" */

/**
 * Ask for a class, then call `act` with its index.
 *
 * @param {Classes} run
 * @param {number | null} given A class that cannot be chosen.
 * @param {(label: number) => void} act
 */
export function chooseClass(run, given, act) {
  const classes = h("select", { id: "other-class", size: 8, autofocus: true, required: true }, classOptions(run));
  for (const option of classes.options) if (given !== null && Number(option.value) === given) option.disabled = true;
  const save = h("button", { class: "primary", value: "save" }, "Save");
  classes.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && classes.value) {
      event.preventDefault();
      save.click();
    }
  });
  classes.addEventListener("dblclick", () => save.click());
  dialog(
    "Other label",
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Which class is it?"),
      h("label", { for: "other-class" }, "Type its first letters, then Enter"),
      classes,
      h(
        "div",
        { class: "buttons" },
        h("button", { value: "", formnovalidate: true, type: "submit" }, "Cancel"),
        save,
      ),
    ),
    () => act(Number(classes.value)),
  );
}
