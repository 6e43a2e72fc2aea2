// Elements out of data. Text goes in as text, never as markup: what a data set holds is nobody's code.

/** An element: `on...` properties are listeners, others attributes; null and false leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The head of a table; a name in a list of its own stands over figures. */
export function head(...names) {
  return h(
    "thead",
    {},
    h("tr", {}, names.map((name) => h("th", { scope: "col", class: Array.isArray(name) && "num" }, name))),
  );
}

/** A filled share of a line; the width is set by script, as the policy forbids style attributes. */
export function bar(share, kind = "") {
  const inner = h("span", { class: `bar-fill ${kind}` });
  inner.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, inner);
}

/** A number for people: four digits that matter, none where there is none. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

export function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}\u00a0%`;
}

/** A sentence of the service, whose figures stay with their unit at the end of a line. */
export const sentence = (text) => text.replaceAll(" %", "\u00a0%");

export function when(text) {
  const date = new Date(text);
  return h(
    "time",
    { datetime: text, title: date.toISOString() },
    date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }),
  );
}

/** Tell a screen reader what happened. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** What the service said went wrong, in its own words. */
export function problem(error) {
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", {}, error.title || "Something went wrong"),
    h("p", {}, error.message),
  );
}

export function loading(text = "Loading …") {
  return h("p", { class: "muted loading" }, text);
}

/** A dialog that leaves the page when it is closed; closing it with a value calls `done`. */
export function dialog(label, content, done = () => {}) {
  const before = document.activeElement;
  const element = h("dialog", { "aria-label": label }, content);
  element.addEventListener("close", () => {
    element.remove();
    if (before && before.isConnected) before.focus();
    if (element.returnValue) done(element.returnValue);
  });
  document.body.append(element);
  element.showModal();
  return element;
}
