// What several views show: class names, an example as people see it, verdicts.

import { announce, h, number } from "../lib/dom.js";
import { address, toRun } from "../lib/route.js";

export const STRATEGIES = {
  logit_margin: [
    "Logit margin",
    "The label's logit farthest behind the best other one: usually the best for wrong labels.",
  ],
  area_under_margin: [
    "Area under the margin",
    "The margin averaged over the epochs: the best where a model has learned by heart.",
  ],
  suspected_errors: ["Suspected errors", "What confident learning counts as a wrong label."],
  self_confidence: ["Self-confidence", "The label that the model believes least."],
  normalized_margin: ["Normalised margin", "The label's probability against the best other one."],
  top_loss: ["Largest loss", "What hurts the model most."],
  top_share: ["Share of the loss", "The fewest examples that hold half of the loss."],
  semi_hard: ["Semi-hard", "Right, but only just: for training, not for wrong labels."],
  ambiguous: ["Ambiguous", "Hard to call. It ignores the label, so it finds no wrong ones."],
  random: ["Random (control)", "Drawn at random: the only way to an honest error rate of the whole run."],
  mix: ["Mix", "Several strategies by their shares."],
};

export const strategyName = (name) => (STRATEGIES[name] || [name])[0];

/** A class by its name, or by its number where the run has no names. */
export function className(run, label) {
  if (label === null || label === undefined) return "–";
  return run.class_names?.[label] ?? `class ${label}`;
}

export function classOptions(run) {
  return Array.from(
    { length: run.num_classes || run.class_names?.length || 0 },
    (_, label) => h("option", { value: label }, className(run, label)),
  );
}

const IMAGE_END = /\.(png|jpe?g|gif|webp|avif|svg|bmp)$/i;

/** The picture that an attribute is, if it is one. SVG is safe here: as an image it runs no script. */
export function pictureOf(name, value) {
  if (typeof value !== "string") return null;
  if (/^data:image\//i.test(value)) return value;
  if (!/^https?:\/\//i.test(value)) return null;
  try {
    return /^(image|picture|thumbnail)(_url)?$/i.test(name) || IMAGE_END.test(new URL(value).pathname) ? value : null;
  } catch {
    return null;
  }
}

/** An example as people see it: its picture, else its text, else all that is known. `rest` tells the others too. */
export function shown(row, { rest = false } = {}) {
  const attributes = Object.entries(row.attributes || {}).filter(([, value]) => value !== null);
  const picture = attributes.find(([name, value]) => pictureOf(name, value));
  const text = attributes.find(([name, value]) => name === "text" && typeof value === "string");
  const found = [];
  if (picture) found.push(h("img", { src: picture[1], alt: `Example ${row.id}`, loading: "lazy", class: "picture" }));
  if (text) found.push(h("p", { class: "text", dir: "auto" }, text[1]));
  const others = attributes.filter((one) => one !== picture && one !== text);
  if (others.length && (rest || !found.length)) {
    found.push(
      h(
        "dl",
        { class: "pairs" },
        others.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, String(value)))),
      ),
    );
  }
  if (!found.length) found.push(h("p", { class: "muted" }, "It was pushed without attributes."));
  return h("div", { class: "example" }, found);
}

export function labels(run, row) {
  const suggested = row.suggested === null || row.suggested === undefined ? null : row.suggested;
  return h(
    "span",
    { class: "labels" },
    h("span", { class: "hidden-text" }, "given "),
    h("span", { class: "label given" }, className(run, row.target)),
    h("span", { class: "hidden-text" }, ", suggested "),
    h("span", { class: "muted", "aria-hidden": "true" }, "→"),
    suggested === null
      ? h("span", { class: "muted" }, "no other")
      : h("span", { class: "label suggested" }, className(run, suggested)),
  );
}

/** A verdict in words, with the class it names. */
export function verdictText(run, verdict, label) {
  if (verdict === "ok") return "Kept";
  if (verdict === "unsure") return "Not sure";
  if (verdict === "wrong") return label === null || label === undefined ? "Wrong" : `Wrong: ${className(run, label)}`;
  return "Open";
}

export function verdictBadge(run, row) {
  if (row.saving) return h("span", { class: "badge" }, "Saving …");
  const kind = { ok: "good", wrong: "bad", unsure: "warn" }[row.verdict] || "";
  return h("span", { class: `badge ${kind}` }, verdictText(run, row.verdict, row.verdict_label));
}

export function crumbs(...links) {
  return h(
    "nav",
    { class: "crumbs", "aria-label": "Where you are" },
    h(
      "ol",
      {},
      links.map(([text, href]) =>
        h("li", {}, href ? h("a", { href }, text) : h("span", { "aria-current": "page" }, text))
      ),
    ),
  );
}

/** The views of a run; the place is what follows its name in the address. */
const PLACES = [
  ["", "Overview"],
  ["examples", "Examples"],
  ["classes", "Classes"],
  ["map", "Data map"],
  ["compare", "Compare"],
  ["export", "Export"],
];

/** What stands over each view of a run: where it is, its name, and the way to the others. */
export function runHead(name, current) {
  return [
    crumbs(["Runs", "#/"], [name]),
    h("h1", { class: "wrap" }, name),
    h(
      "nav",
      { class: "places", "aria-label": `Views of ${name}` },
      h(
        "ul",
        {},
        PLACES.map(([place, text]) =>
          h(
            "li",
            {},
            h("a", {
              href: place ? address(["runs", name, place]) : toRun(name),
              "aria-current": place === current ? "page" : null,
            }, text),
          )
        ),
      ),
    ),
  ];
}

export function tile(name, value, note) {
  return h(
    "div",
    { class: "tile" },
    h("dt", {}, name),
    h("dd", {}, h("strong", {}, value), note && h("small", {}, note)),
  );
}

/** How often a strategy was right, with how sure that is. */
export function precisionText(one) {
  if (!one || one.share === null) return ["–", "no verdicts yet"];
  const interval = `${Math.round(100 * one.low)}–${Math.round(100 * one.high)} % (95 %)`;
  return [
    `${Math.round(100 * one.share)} %`,
    `${number(one.wrong)} of ${number(one.reviewed - one.unsure)} wrong; ${interval}`,
  ];
}

/** A button that copies a text; null where the browser lets no page do so, as without a secure context. */
export function copyButton(text) {
  if (!navigator.clipboard) return null;
  const button = h("button", {
    type: "button",
    class: "quiet",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        announce("Copied.");
      } catch {
        announce("The browser does not let this page copy.");
      }
    },
  }, "Copy");
  return button;
}
