// Files that the user drops on the list of runs, or chooses there, become a run.

import { h, problem } from "../lib/dom.js";
import { MEDIA_TYPES, mediaTypeOf } from "../lib/run_upload.js";
import { askForRun } from "./drop_form.js";

/** @import { View } from "../types.d.ts" */

/**
 * A button to choose files. While it is on the page, the whole window accepts dropped files.
 *
 * @param {View} view
 */
export function dropZone(view) {
  const notice = h("div", {});
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
  const accept = (/** @type {File[]} */ files) => {
    const unknown = files.find((file) => !mediaTypeOf(file.name));
    notice.replaceChildren();
    if (unknown) {
      notice.append(
        problem({
          title: `${unknown.name} has an unknown type`,
          message: `The page accepts files that end with ${Object.keys(MEDIA_TYPES).join(", ")}.`,
        }),
      );
    } else if (files.length) askForRun(files, view, notice);
  };
  input.addEventListener("change", () => {
    const files = [...input.files || []];
    // Otherwise the user could not choose the same file again.
    input.value = "";
    accept(files);
  });
  /** @type {(name: "dragover" | "dragleave" | "drop", act: (event: DragEvent) => void) => void} */
  const listen = (name, act) =>
    globalThis.addEventListener(name, (event) => {
      // Another list may have replaced this one.
      if (!button.isConnected || !event.dataTransfer?.types.includes("Files")) return;
      // Otherwise the browser would open the file.
      event.preventDefault();
      act(event);
    }, { signal: view.signal });
  listen("dragover", () => button.classList.add("over"));
  listen("dragleave", (event) => {
    if (!event.relatedTarget) button.classList.remove("over");
  });
  listen("drop", (event) => {
    button.classList.remove("over");
    if (!document.querySelector("dialog[open]")) accept([...event.dataTransfer?.files || []]);
  });
  return h("div", {}, button, input, notice);
}
