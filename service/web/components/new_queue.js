// A form that makes a queue out of a run: three choices for the usual case, the others behind "More choices".

import { call, get, path } from "../lib/api.js";
import { h, number, problem } from "../lib/dom.js";
import { className, STRATEGIES } from "./parts.js";
import { toQueue } from "../lib/route.js";

const MOST_QUOTAS = 50;
const QUIET_MS = 400;
const CLASSES_TOLD = 6;
const FIRST_MIX = [["logit_margin", 80], ["random", 20]];
const single = Object.entries(STRATEGIES).filter(([name]) => name !== "mix");

/**
 * @param run The run as the API tells it.
 * @param refused Told of errors first; true where it has dealt with one.
 */
export function newQueue(run, refused) {
  const told = h("div", {});
  const meaning = h("p", { class: "muted", id: "meaning", "aria-live": "polite" });
  const strategy = h(
    "select",
    { id: "strategy", "aria-describedby": "meaning" },
    Object.entries(STRATEGIES).map(([name, [text]]) => h("option", { value: name }, text)),
  );
  const mix = mixInputs();
  const budget = numberInput("budget", { min: 1, max: 100000, required: true, value: 50 });
  const quotas = h(
    "select",
    { id: "quotas" },
    h("option", { value: "" }, "As they come"),
    h("option", { value: "equal" }, "The same number of each class"),
    h("option", { value: "proportional" }, "In proportion to the classes"),
    run.num_classes <= MOST_QUOTAS && h("option", { value: "numbers" }, "A number for each class"),
  );
  const each = quotaInputs(run);
  const more = moreChoices(run);
  const name = h("input", { id: "name", maxlength: 100, autocomplete: "off", placeholder: "optional" });
  const button = h("button", { class: "primary", type: "submit" }, "Make queue");
  const expected = h("p", { class: "muted expected", "aria-live": "polite" });
  const form = h(
    "form",
    { class: "card new-queue" },
    told,
    h("label", { for: "strategy" }, "Strategy"),
    strategy,
    meaning,
    mix,
    h("label", { for: "budget" }, "How many examples"),
    budget,
    h("label", { for: "quotas" }, "Classes"),
    quotas,
    each,
    more,
    h("label", { for: "name" }, "Name"),
    name,
    button,
    expected,
  );

  const used = () => (strategy.value === "mix" ? mix.strategies() : [strategy.value]);
  const fit = () => {
    meaning.textContent = STRATEGIES[strategy.value][1];
    mix.show(strategy.value === "mix");
    show(each, quotas.value === "numbers");
    more.fit(used(), strategy.value, quotas.value);
  };
  const request = () => {
    const found = { strategy: strategy.value, budget: Number(budget.value), ...more.members() };
    if (strategy.value === "mix") found.mix = mix.shares();
    if (quotas.value === "numbers") found.per_class = quotaNumbers(each);
    else if (quotas.value) found.per_class = quotas.value;
    return found;
  };
  const preview = previewed(run, form, request, expected);
  form.addEventListener("input", (event) => {
    fit();
    if (event.target !== name) preview.soon();
  });
  form.addEventListener("focusin", () => preview.soon(), { once: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    preview.stop();
    button.disabled = true;
    const named = name.value.trim() ? { name: name.value.trim() } : {};
    try {
      const made = await call("POST", path("runs", run.run, "queues"), { ...request(), ...named });
      location.hash = toQueue(run.run, made.name);
    } catch (error) {
      if (!refused(error)) told.replaceChildren(problem(error));
    }
    button.disabled = false;
  });
  fit();
  return form;
}

/** What the queue would hold, told when nothing was typed for a while; a request that makes none is for the button to tell. */
function previewed(run, form, request, line) {
  let timer, asking = new AbortController();
  const stop = () => {
    clearTimeout(timer);
    asking.abort();
  };
  const ask = async () => {
    asking = new AbortController();
    const { signal } = asking;
    if (!form.isConnected || !form.checkValidity()) {
      line.textContent = "";
      return;
    }
    try {
      const found = await call("POST", `${path("runs", run.run, "queues")}?preview=true`, request(), signal);
      if (!signal.aborted) line.textContent = expectation(run, found);
    } catch {
      if (!signal.aborted) line.textContent = "";
    }
  };
  return {
    stop,
    soon: () => {
      stop();
      timer = setTimeout(ask, QUIET_MS);
    },
  };
}

function expectation(run, { expected_yield: expected, num_rows: rows, num_per_class: classes }) {
  if (!rows) return "No example fits.";
  const wrong = Math.round(expected.wrong_labels);
  const order = Object.entries(classes || {}).sort(([, one], [, other]) => other - one);
  const told = order.slice(0, CLASSES_TOLD).map(([label, count]) =>
    `${className(run, Number(label))}: ${number(count)}`
  );
  const rest = order.length > CLASSES_TOLD ? ", …" : "";
  return `About ${number(wrong)} wrong ${wrong === 1 ? "label" : "labels"} expected in ${number(rows)} ${
    rows === 1 ? "row" : "rows"
  }` +
    `${told.length ? `; by class: ${told.join(", ")}${rest}` : ""}.`;
}

/** Show inputs or hide them; what is hidden is not checked and not sent. */
function show(element, shown) {
  element.hidden = !shown;
  for (const input of element.querySelectorAll("input, select")) input.disabled = !shown;
}

function numberInput(id, attributes) {
  return h("input", { id, type: "number", ...attributes });
}

/** Rows of a strategy and its share. */
function mixInputs() {
  const rows = h("div", {});
  const add = h("button", { type: "button", class: "quiet" }, "Add a strategy");
  const element = h("fieldset", { class: "mix" }, h("legend", {}, "Share of each strategy, in %"), rows, add);
  const row = (name, share) => {
    const line = h(
      "div",
      { class: "mix-row" },
      h("select", { "aria-label": "Part of the mix" }, single.map(([value, [text]]) => h("option", { value }, text))),
      h("input", {
        type: "number",
        min: 0.1,
        max: 100,
        step: "any",
        required: true,
        value: share,
        "aria-label": "Its share in %",
      }),
      h("button", {
        type: "button",
        class: "quiet",
        "aria-label": "Leave this part out",
        onclick: () => {
          line.remove();
          tidy();
          add.focus();
          element.dispatchEvent(new Event("input", { bubbles: true }));
        },
      }, "×"),
    );
    line.firstChild.value = name;
    return line;
  };
  const names = () => [...rows.querySelectorAll("select")].map((select) => select.value);
  const tidy = () => {
    const chosen = names();
    // A strategy has one share.
    for (const select of rows.querySelectorAll("select")) {
      for (const option of select.options) {
        option.disabled = option.value !== select.value && chosen.includes(option.value);
      }
    }
    for (const remove of rows.querySelectorAll("button")) remove.disabled = chosen.length < 2;
    add.hidden = chosen.length === single.length;
  };
  add.addEventListener("click", () => {
    const [free] = single.find(([name]) => !names().includes(name));
    rows.append(row(free, 20));
    tidy();
    rows.lastChild.firstChild.focus();
    element.dispatchEvent(new Event("input", { bubbles: true }));
  });
  rows.append(...FIRST_MIX.map(([name, share]) => row(name, share)));
  rows.addEventListener("input", tidy);
  tidy();
  return Object.assign(element, {
    strategies: names,
    shares: () =>
      Object.fromEntries(
        [...rows.children].map((
          line,
        ) => [line.querySelector("select").value, Number(line.querySelector("input").value) / 100]),
      ),
    show: (shown) => show(element, shown),
  });
}

/** What is rarely needed; only what goes with the strategy is shown. */
function moreChoices(run) {
  const fields = [];
  /** `fits` says whether a choice goes with the strategies and the quotas; `member` gives what the request says of it. */
  const choice = (fits, member, ...content) => {
    const element = h("div", {}, content);
    fields.push({ element, fits, member });
    return element;
  };
  const simple = (key, label, attributes, fits) => {
    const input = numberInput(key, attributes);
    return choice(
      fits,
      () => (input.value === "" ? {} : { [key]: Number(input.value) }),
      h("label", { for: key }, label),
      input,
    );
  };
  const names = h("datalist", { id: "attribute-names" });
  const attribute = h("input", {
    id: "at-most-attribute",
    list: "attribute-names",
    autocomplete: "off",
    placeholder: "an attribute",
  });
  const count = numberInput("at-most-count", { min: 1, value: 1 });
  const reviewed = h("input", { id: "exclude-reviewed", type: "checkbox" });
  let usual = null;
  const element = h(
    "details",
    { class: "more-choices" },
    h("summary", {}, "More choices"),
    simple(
      "first",
      "Only the first epochs",
      { min: 1, max: run.epochs.length || 1, placeholder: "all" },
      ({ used }) => used.includes("area_under_margin"),
    ),
    simple(
      "margin",
      "Semi-hard up to a margin of",
      { min: 0, step: "any", placeholder: "1" },
      ({ used }) => used.includes("semi_hard"),
    ),
    simple(
      "share",
      "Share of the loss, from 0 to 1",
      { min: 0, max: 1, step: "any", placeholder: "0.5" },
      ({ used }) => used.includes("top_share"),
    ),
    simple(
      "seed",
      "Seed of the draw",
      { min: 0, max: Number.MAX_SAFE_INTEGER, placeholder: "0" },
      ({ used }) => used.includes("random"),
    ),
    simple(
      "min_per_class",
      "At least of each class",
      { min: 0, placeholder: "0" },
      ({ quotas }) => quotas !== "numbers",
    ),
    choice(
      () => true,
      () => (attribute.value ? { at_most: { attribute: attribute.value, count: Number(count.value) } } : {}),
      h("label", { for: "at-most-attribute" }, "At most so many with the same"),
      h(
        "div",
        { class: "pair" },
        attribute,
        names,
        h("label", { class: "hidden-text", for: "at-most-count" }, "At most how many"),
        count,
      ),
    ),
    choice(
      () => true,
      () => (reviewed.checked === usual ? {} : { exclude_reviewed: reviewed.checked }),
      h("label", { class: "check", for: "exclude-reviewed" }, reviewed, "Leave out what has a verdict"),
    ),
  );
  // Which attributes there are is known when somebody looks for them.
  element.addEventListener("toggle", async () => {
    const { rows } = await get(`${path("runs", run.run, "examples")}?limit=1`).catch(() => ({ rows: [] }));
    names.replaceChildren(...Object.keys(rows[0]?.attributes || {}).map((value) => h("option", { value })));
  }, { once: true });
  return Object.assign(element, {
    fit: (used, strategy, quotas) => {
      for (const one of fields) show(one.element, one.fits({ used, quotas }));
      // A control slice speaks for all examples.
      if (usual !== (strategy !== "random")) reviewed.checked = usual = strategy !== "random";
    },
    members: () => Object.assign({}, ...fields.filter((one) => !one.element.hidden).map((one) => one.member())),
  });
}

function quotaInputs(run) {
  return h(
    "fieldset",
    { class: "quotas", hidden: true },
    h("legend", {}, "At most of each class"),
    Array.from({ length: Math.min(run.num_classes || 0, MOST_QUOTAS) }, (_, label) =>
      h(
        "label",
        {},
        h("span", {}, className(run, label)),
        h("input", { type: "number", min: 0, value: 10, "data-class": label }),
      )),
  );
}

function quotaNumbers(each) {
  return Object.fromEntries(
    [...each.querySelectorAll("input")].map((input) => [input.dataset.class, Number(input.value)]),
  );
}
