// Reviewing by keyboard: which key does what, and the list of them behind `?`.

import { dialog, h } from "./dom.js";

const OFF = "focal-loss-keys-off";

/** What can be done with a row: name, keys, the word on its button. */
export const ACTIONS = [
  ["keep", ["1", "k"], "Keep", "The given label is right"],
  ["accept", ["2", "a"], "Accept", "Take the suggested label"],
  ["other", ["3", "o"], "Other …", "Choose another class"],
  ["unsure", ["4", "d"], "Not sure", "Say that it cannot be told"],
  ["skip", ["s"], "Skip", "Leave it open and go on"],
  ["undo", ["u"], "Undo", "Take back the last verdict, or the last step for many"],
  ["next", ["j", "ArrowDown"], "Next", "Go to the next row"],
  ["previous", ["ArrowUp"], "Previous", "Go to the row before"],
  ["pick", ["x"], "Select", "Select the row, or no longer"],
  ["help", ["?"], "Keys", "Show this list"],
];

/** Listen until the signal ends; `act` is called with the name of an action. */
export function listen(act, signal) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) {
      return;
    }
    // Where keys mean something else they keep their meaning.
    if (event.target.closest("input:not([type=checkbox]), select, textarea, summary")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = ACTIONS.find(([, keys]) => keys.includes(key));
    if (!found || (keysAreOff() && found[0] !== "help")) return;
    event.preventDefault();
    if (!event.repeat || ["next", "previous"].includes(found[0])) act(found[0]);
  }, { signal });
}

function keysAreOff() {
  return localStorage.getItem(OFF) === "yes";
}

export function showKeys() {
  // Who speaks to the machine wants single letters to do nothing (WCAG 2.1.4).
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
        ACTIONS.map(([, keys, , meaning]) =>
          h("div", {}, h("dt", {}, keys.map((key) => h("kbd", {}, shownKey(key)))), h("dd", {}, meaning))
        ),
      ),
      h("label", { class: "check", for: "keys-off" }, off, "Turn these keys off"),
      h("div", { class: "buttons" }, h("button", { class: "primary", autofocus: true }, "Close")),
    ),
  );
}

export function shownKey(key) {
  return { ArrowDown: "↓", ArrowUp: "↑" }[key] || key.toUpperCase();
}
