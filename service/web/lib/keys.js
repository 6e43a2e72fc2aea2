// Review by keyboard: the keys of each action, and the dialog that lists them.

import { dialog, h } from "./dom.js";

const OFF = "focal-loss-keys-off";

/**
 * Actions on a row: name, keys, label of the button, description.
 *
 * @type {[name: string, keys: string[], label: string, description: string][]}
 */
export const ACTIONS = [
  ["keep", ["1", "k"], "Keep", "The given label is right"],
  ["accept", ["2", "a"], "Accept", "Take the suggested label"],
  ["other", ["3", "o"], "Other …", "Choose another class"],
  ["unsure", ["4", "d"], "Not sure", "The right label cannot be determined"],
  ["exclude", ["x"], "Exclude", "Leave the example out of the data set"],
  ["comment", ["c"], "Comment", "Write a comment for the verdict"],
  ["skip", ["s"], "Skip", "Leave the row open and go on"],
  ["undo", ["u"], "Undo", "Take back the last verdict, or the last bulk step"],
  ["next", ["j", "ArrowDown"], "Next", "Go to the next row"],
  ["previous", ["ArrowUp"], "Previous", "Go to the row before"],
  ["pick", ["m"], "Select", "Select or deselect the row"],
  ["help", ["?"], "Keys", "Show this list"],
];

/**
 * Call `act` with the name of an action when one of its keys is pressed, until the signal aborts.
 *
 * @param {(action: string) => void} act
 * @param {AbortSignal} signal
 */
export function listen(act, signal) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) {
      return;
    }
    // Keys keep their usual meaning in form controls.
    const target = /** @type {Element} */ (event.target);
    if (target.closest("input:not([type=checkbox]), select, textarea, summary")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = ACTIONS.find(([, keys]) => keys.includes(key));
    if (!action || (keysAreOff() && action[0] !== "help")) return;
    event.preventDefault();
    if (!event.repeat || ["next", "previous"].includes(action[0])) act(action[0]);
  }, { signal });
}

function keysAreOff() {
  return localStorage.getItem(OFF) === "yes";
}

/** Open the dialog that lists the keys. */
export function showKeys() {
  // Users of speech input need a way to turn off single-letter keys (WCAG 2.1.4).
  const off = h("input", { type: "checkbox", id: "keys-off" });
  off.checked = keysAreOff();
  off.addEventListener("change", () => localStorage.setItem(OFF, off.checked ? "yes" : "no"));
  dialog(
    "Keys",
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Review by keyboard"),
      h(
        "dl",
        { class: "keys" },
        ACTIONS.map(([, keys, , description]) =>
          h("div", {}, h("dt", {}, keys.map((key) => h("kbd", {}, keyLabel(key)))), h("dd", {}, description))
        ),
      ),
      h("label", { class: "check", for: "keys-off" }, off, "Turn these keys off"),
      h("div", { class: "buttons" }, h("button", { class: "primary", autofocus: true }, "Close")),
    ),
  );
}

/**
 * The label of a key, such as "K" or "↓".
 *
 * @param {string} key
 */
export function keyLabel(key) {
  if (key === "ArrowDown") return "↓";
  return key === "ArrowUp" ? "↑" : key.toUpperCase();
}
