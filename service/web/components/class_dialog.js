// A dialog that asks for a class.

import { classOptions } from "./parts.js";
import { dialog, h } from "../lib/dom.js";

/** Ask for a class other than `given` (null: any), then call `act` with its index. */
export function chooseClass(run, given, act) {
  const classes = h("select", { id: "other-class", size: 8, autofocus: true, required: true }, classOptions(run));
  for (const option of classes.options) if (given !== null && Number(option.value) === given) option.disabled = true;
  const choose = h("button", { class: "primary", value: "save" }, "Save");
  classes.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && classes.value) {
      event.preventDefault();
      choose.click();
    }
  });
  classes.addEventListener("dblclick", () => choose.click());
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
        choose,
      ),
    ),
    () => act(Number(classes.value)),
  );
}
