// Two runs, or two epochs of one: what has become hard, what is resolved, what has moved.

import { get, path } from "../lib/api.js";
import { chart, colour, plain } from "../lib/charts.js";
import { h, head, number, percent, problem, sentence } from "../lib/dom.js";
import { className, runHead, tile } from "../components/parts.js";
import { address, toExample } from "../lib/route.js";

const LEAST_LOSS = 1e-12; // a logarithm has no zero
// Kinds of examples in the chart: name, colour of the page's style, symbol.
const KINDS = {
  newly_hard: ["newly hard", "bad", "triangle-up"],
  resolved: ["resolved", "good", "triangle-down"],
  moves: ["moved", "accent", "circle"],
};

export async function compareView({ parts, query, signal, refused }) {
  const name = parts[1];
  const [run, { runs }] = await Promise.all([get(path("runs", name), signal), get("runs", signal)]);
  return new ComparePage(run, runs.filter((one) => one.num_examples), { query, signal, refused }).element;
}

class ComparePage {
  constructor(run, runs, { query, signal, refused }) {
    Object.assign(this, { run, runs, signal, refused, axis: "rank" });
    const keys = ["with", "epoch", "other_epoch", "top", "alpha", "gamma"];
    this.values = Object.fromEntries(keys.map((key) => [key, query.get(key) || ""]));
    this.found = h("div", {});
    this.swap = h("a", {}, "Swap before and after");
    this.element = h(
      "section",
      {},
      runHead(run.run, "compare"),
      h("p", { class: "lead" }, "What a relabelled data set or another model changed, example by example."),
      this.#form(),
      this.found,
    );
    this.update();
  }

  #form() {
    const { values, run, runs } = this;
    this.epoch = h("select", { id: "compare-epoch" });
    this.otherEpoch = h("select", { id: "compare-other-epoch" });
    const other = h(
      "select",
      { id: "compare-with" },
      h("option", { value: "" }, "Choose a run"),
      runs.map((one) =>
        h("option", { value: one.run }, one.run === run.run ? `${one.run} itself, at another epoch` : one.run)
      ),
    );
    // Said by the service, in its own words, until another one is chosen.
    if (values.with && !runs.some((one) => one.run === values.with)) {
      other.append(h("option", { value: values.with }, values.with));
    }
    other.value = values.with;
    const top = h("input", { id: "compare-top", type: "number", min: 1, placeholder: "one in a hundred" });
    top.value = values.top;
    this.#epochs();
    const changed = (input, key, then = () => {}) =>
      input.addEventListener("change", () => {
        values[key] = input.value;
        then();
        this.update();
      });
    changed(other, "with", () => {
      values.other_epoch = "";
      // A run is not compared with the same epoch of itself, unless somebody wants it.
      if (other.value === run.run && !values.epoch) values.epoch = String(run.epochs[0]?.epoch ?? "");
      this.#epochs();
    });
    changed(this.epoch, "epoch");
    changed(this.otherEpoch, "other_epoch");
    changed(top, "top");
    const field = (label, input) => h("div", {}, h("label", { for: input.id }, label), input);
    return h(
      "form",
      { class: "card compare-form", onsubmit: (event) => event.preventDefault() },
      field(`Before: ${run.run}, epoch`, this.epoch),
      field("After: run", other),
      field("After: epoch", this.otherEpoch),
      field("How many count as the hardest", top),
      this.swap,
    );
  }

  #epochs() {
    const fill = (select, of, value) => {
      const all = (of?.epochs || []).map((one) => one.epoch).toReversed();
      select.replaceChildren(
        ...(all.length ? all : [""]).map((one, place) =>
          h("option", { value: place ? one : "" }, one === "" ? "the last" : place ? one : `${one}, the last`)
        ),
      );
      select.value = value;
      if (select.selectedIndex < 0) select.append(h("option", { value, selected: true }, value));
    };
    fill(this.epoch, this.run, this.values.epoch);
    fill(this.otherEpoch, this.runs.find((one) => one.run === this.values.with), this.values.other_epoch);
  }

  async update() {
    const { values, run } = this;
    this.drawn?.abort();
    this.drawn = new AbortController();
    const { signal } = this.drawn;
    this.signal.addEventListener("abort", () => this.drawn.abort(), { signal });
    if (this.element.isConnected) history.replaceState(null, "", address(["runs", run.run, "compare"], values));
    const { with: other, ...asked } = values;
    this.swap.hidden = !other;
    const swapped = { ...values, with: run.run, epoch: values.other_epoch, other_epoch: values.epoch };
    this.swap.href = address(["runs", other, "compare"], swapped);
    if (!other) {
      this.found.replaceChildren(
        h(
          "p",
          { class: "card muted" },
          "Choose the run that came after. ",
          run.epochs.length > 1 ? "A run can be compared with itself, at another epoch." : "",
        ),
      );
      return;
    }
    const words = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));
    this.found.setAttribute("aria-busy", "true");
    try {
      this.#show(await get(`${path("runs", run.run)}/compare/${path(other)}?${words}`, signal), signal);
    } catch (error) {
      if (error.name !== "AbortError" && !this.refused(error)) this.found.replaceChildren(problem(error));
    }
    if (!signal.aborted) this.found.removeAttribute("aria-busy");
  }

  #show(found, signal) {
    if (!found.num_common) {
      this.found.replaceChildren(
        h(
          "p",
          { class: "notice warn" },
          "The two have no example in common: examples are the same where their ids are.",
        ),
      );
      return;
    }
    this.found.replaceChildren(
      h("p", { class: "compare-said", role: "status" }, said(found)),
      tiles(found),
      h(
        "div",
        { class: "pair" },
        this.#list(
          "Newly hard",
          found.newly_hard,
          found.num_newly_hard,
          found.after.run,
          `Not among the ${number(found.top)} hardest before, among them after.`,
          "No example has become hard.",
        ),
        this.#list(
          "Resolved",
          found.resolved,
          found.num_resolved,
          found.before.run,
          `Among the ${number(found.top)} hardest before, no longer after.`,
          "No example is resolved.",
        ),
      ),
      this.#moves(found, signal),
      this.#classes(found),
    );
  }

  /** Examples in words, each with the way to it in the run where it is hard. */
  #list(title, rows, count, where, meaning, none) {
    const more = count > rows.length ? ` The first ${number(rows.length)} are listed.` : "";
    return h(
      "section",
      { class: "card", "aria-label": title },
      h("h2", {}, `${title} (${number(count)})`),
      h("p", { class: "muted" }, meaning, more),
      rows.length ? h("div", { class: "scroll" }, this.#table(title, rows, where)) : h("p", {}, none),
    );
  }

  #table(title, rows, where) {
    return h(
      "table",
      { class: "stacked" },
      h("caption", { class: "hidden-text" }, title),
      head("Example", "Given", "Prediction", ["Loss"], ["Rank"]),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("a", { class: "wrap", href: toExample(where, row.id) }, row.id)),
            h("td", { "data-label": "Given" }, this.#change(row, "target")),
            h("td", { "data-label": "Prediction" }, this.#change(row, "prediction")),
            h(
              "td",
              { class: "num", "data-label": "Loss" },
              arrow(number(row.loss_before, 3), number(row.loss_after, 3)),
            ),
            h("td", { class: "num", "data-label": "Rank" }, arrow(number(row.rank_before), number(row.rank_after))),
          )
        ),
      ),
    );
  }

  #change(row, what) {
    const [before, after] = [row[`${what}_before`], row[`${what}_after`]].map((label) => className(this.run, label));
    return before === after ? before : arrow(before, after);
  }

  /** All that is named, before against after; who is below the line has become easier. */
  #moves(found, signal) {
    const kinds = { newly_hard: found.newly_hard, resolved: found.resolved };
    const named = new Set([...found.newly_hard, ...found.resolved].map((row) => row.id));
    kinds.moves = found.moves.filter((row) => !named.has(row.id));
    const all = Object.values(kinds).flat();
    if (!all.length) return null;
    const axis = h(
      "select",
      { id: "compare-axis" },
      h("option", { value: "rank" }, "Rank (1 is the hardest)"),
      h("option", { value: "loss" }, "Loss"),
    );
    axis.value = this.axis;
    const words = `${number(found.num_newly_hard)} newly hard, ${number(found.num_resolved)} resolved ` +
      `and the largest moves of rank.`;
    const figure = chart(null, words, () => this.#drawing(kinds, all), {
      height: 400,
      table: this.#table("Largest moves of rank", found.moves, found.after.run),
      signal,
      on: {
        plotly_click: ({ points: [point] }) => {
          const [kind, id] = point.customdata || [];
          if (kind) location.hash = toExample(kind === "resolved" ? found.before.run : found.after.run, id);
        },
      },
    });
    axis.addEventListener("change", () => {
      this.axis = axis.value;
      figure.redraw();
    });
    return h(
      "section",
      { class: "card", "aria-label": "Moves" },
      h("h2", {}, "What has moved"),
      h(
        "p",
        { class: "muted" },
        "Before across, after upwards. On the line nothing has changed. " +
          "Click a point to open its example.",
      ),
      h(
        "div",
        { class: "compare-tools" },
        h("div", {}, h("label", { for: "compare-axis" }, "Show"), axis),
        h(
          "ul",
          { class: "legend", "aria-label": "Colours" },
          Object.entries(KINDS).map(([kind, [text, tone]]) =>
            h(
              "li",
              {},
              h("span", { class: `dot ${tone}`, "aria-hidden": "true" }),
              `${text} (${number(kinds[kind].length)})`,
            )
          ),
        ),
      ),
      figure,
    );
  }

  #drawing(kinds, all) {
    const by = this.axis;
    const at = (row, when) => (by === "rank" ? row[`rank_${when}`] : Math.max(row[`loss_${when}`], LEAST_LOSS));
    const values = all.flatMap((row) => [at(row, "before"), at(row, "after")]);
    const ends = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    const line = {
      type: "scatter",
      mode: "lines",
      x: ends,
      y: ends,
      hoverinfo: "skip",
      line: { color: colour("muted"), width: 1, dash: "dot" },
    };
    const points = Object.entries(kinds).map(([kind, rows]) => {
      const [, tone, symbol] = KINDS[kind];
      return {
        type: "scatter",
        mode: "markers",
        x: rows.map((row) => at(row, "before")),
        y: rows.map((row) => at(row, "after")),
        customdata: rows.map((row) => [kind, row.id]),
        hoverinfo: "text",
        text: rows.map((row) =>
          `${plain(row.id)}: ${by} ${number(at(row, "before"), 3)} → ${number(at(row, "after"), 3)}`
        ),
        marker: { color: colour(tone), symbol, size: 9, opacity: 0.8 },
      };
    });
    const scale = { type: "log", exponentformat: "none", nticks: 8 };
    return {
      data: [line, ...points],
      layout: {
        xaxis: { ...scale, title: { text: `${by} before` } },
        yaxis: { ...scale, title: { text: `${by} after` } },
      },
    };
  }

  #classes(found) {
    return h(
      "section",
      { class: "card", "aria-label": "Classes" },
      h("h2", {}, "Classes"),
      h("p", { class: "muted" }, "By the label given after."),
      h(
        "table",
        { class: "stacked" },
        h("caption", { class: "hidden-text" }, "What changed, class by class"),
        head("Class", ["Examples"], ["Mean loss before"], ["Mean loss after"], ["Newly hard"], ["Resolved"]),
        h(
          "tbody",
          {},
          found.classes.map((row) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, className(this.run, row.class)),
              [
                ["Examples", row.count],
                ["Mean loss before", row.mean_loss_before],
                ["Mean loss after", row.mean_loss_after],
                ["Newly hard", row.num_newly_hard],
                ["Resolved", row.num_resolved],
              ].map(([name, value]) => h("td", { class: "num", "data-label": name }, number(value, 3))),
            )
          ),
        ),
      ),
    );
  }
}

function arrow(before, after) {
  return h(
    "span",
    {},
    before,
    h("span", { class: "muted", "aria-hidden": "true" }, " → "),
    h("span", { class: "hidden-text" }, " then "),
    after,
  );
}

function said(found) {
  const hard = found.num_newly_hard === 1
    ? "1 example has become hard"
    : `${number(found.num_newly_hard)} examples have become hard`;
  const resolved = `${number(found.num_resolved)} ${found.num_resolved === 1 ? "is" : "are"} resolved`;
  return sentence(`${hard}, ${resolved}; ${Math.round(100 * found.overlap)} % of the hardest are the same.`);
}

function tiles(found) {
  const { before, after, num_only_before: gone, num_only_after: come } = found;
  return h(
    "dl",
    { class: "tiles" },
    tile(
      "Examples in common",
      number(found.num_common),
      gone || come ? `${number(gone)} only before, ${number(come)} only after` : "all of both",
    ),
    tile(
      "Mean loss",
      arrow(number(found.mean_loss_before, 3), number(found.mean_loss_after, 3)),
      "of those in common, under the loss of the run before",
    ),
    tile("Hardest that are the same", percent(found.overlap, 0), `of the ${number(found.top)} hardest of each`),
    tile("Rank correlation", number(found.rank_correlation, 3), "1: the same order; 0: none in common"),
    tile(
      "Relabelled",
      number(found.num_relabelled),
      `${number(found.num_predicted_otherwise)} are predicted otherwise; epoch ${before.epoch}, then ${after.epoch}`,
    ),
  );
}
