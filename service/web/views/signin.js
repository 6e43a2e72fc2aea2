// The key is sent once and not kept here: the browser holds a cookie that no script can read.

import { call } from "../lib/api.js";
import { h, problem } from "../lib/dom.js";

export function signInView(done) {
  const told = h("div", {});
  const key = h("input", {
    id: "key",
    name: "key",
    type: "password",
    required: true,
    autocomplete: "current-password",
    "data-focus": true,
  });
  const button = h("button", { class: "primary", type: "submit" }, "Sign in");
  const form = h(
    "form",
    { class: "card narrow", method: "dialog" },
    h("h1", {}, "Sign in"),
    h("p", { class: "muted" }, "This service asks for a key. Whoever set it up has one (FOCAL_LOSS_API_KEYS)."),
    told,
    h("label", { for: "key" }, "Key"),
    key,
    button,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await call("POST", "session", { key: key.value });
      await done();
    } catch (error) {
      told.replaceChildren(problem(error));
      key.select();
    }
    button.disabled = false;
  });
  return form;
}
