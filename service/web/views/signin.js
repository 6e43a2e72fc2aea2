// The sign-in form. It sends the key once; from then on the browser has a cookie that scripts cannot read.

import { call } from "../lib/api.js";
import { h, problem } from "../lib/dom.js";

/** @param {() => Promise<void>} done Called after the user has signed in. */
export function signInView(done) {
  const notice = h("div", {});
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
    h("p", { class: "muted" }, "This service asks for a key. Ask its operator for one (setting FOCAL_LOSS_API_KEYS)."),
    notice,
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
      notice.replaceChildren(problem(error));
      key.select();
    }
    button.disabled = false;
  });
  return form;
}
