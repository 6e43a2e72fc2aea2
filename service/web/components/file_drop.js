// A button to choose files. While it is on the page, the whole window accepts dropped files.

import { h, problem } from "../lib/dom.js";
import { mediaTypeOf } from "../lib/run_upload.js";

/** @import { Child } from "../types.d.ts" */

/**
 * @param {AbortSignal} signal
 * @param {object} options
 * @param {string} options.label For screen readers.
 * @param {string} options.title
 * @param {Child} options.hint
 * @param {Record<string, string>} options.types Media types by the ending of a file name.
 * @param {boolean} options.multiple
 * @param {(files: File[], notice: HTMLElement) => void} options.accept Called with files of these types, and the place
 *   below the button for messages.
 */
export function fileDrop(signal, { label, title, hint, types, multiple, accept }) {
  const notice = h("div", {});
  const endings = Object.keys(types).map((ending) => `.${ending}`);
  const input = h("input", { type: "file", multiple, hidden: true, "aria-label": label, accept: endings.join(",") });
  const button = h(
    "button",
    { class: "drop", type: "button", onclick: () => input.click() },
    h("strong", {}, title),
    h("small", {}, hint),
  );
  const take = (/** @type {File[]} */ files) => {
    const unknown = files.find((file) => !mediaTypeOf(file.name, types));
    notice.replaceChildren();
    if (unknown) {
      const message = `The page accepts files that end with ${Object.keys(types).join(", ")}.`;
      notice.append(problem({ title: `${unknown.name} has an unknown type`, message }));
    } else if (files.length) accept(files, notice);
  };
  input.addEventListener("change", () => {
    const files = [...input.files || []];
    // Otherwise the user could not choose the same file again.
    input.value = "";
    take(files);
  });
  /** @type {(name: "dragover" | "dragleave" | "drop", act: (event: DragEvent) => void) => void} */
  const listen = (name, act) =>
    globalThis.addEventListener(name, (event) => {
      // Another list may have replaced this one.
      if (!button.isConnected || !event.dataTransfer?.types.includes("Files")) return;
      // Otherwise the browser would open the file.
      event.preventDefault();
      act(event);
    }, { signal });
  listen("dragover", () => button.classList.add("over"));
  listen("dragleave", (event) => {
    if (!event.relatedTarget) button.classList.remove("over");
  });
  listen("drop", (event) => {
    button.classList.remove("over");
    if (!document.querySelector("dialog[open]")) take([...event.dataTransfer?.files || []]);
  });
  return h("div", {}, button, input, notice);
}
