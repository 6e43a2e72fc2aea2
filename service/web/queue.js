// A queue, the page that people live in: one row at a time with everything needed to judge it, and the list beside.

import { get, path } from "./api.js";
import { announce, bar, dialog, h, head, number, problem, sentence } from "./dom.js";
import { ACTIONS, listen, showKeys, shownKey } from "./keys.js";
import { className, classOptions, crumbs, labels, precisionText, shown, strategyName, tile, verdictBadge, verdictText } from "./parts.js";
import { Reviews } from "./review.js";
import { toExample, toQueue, toRun } from "./route.js";

const ROWS_AT_ONCE = 1000;
const WIDE = matchMedia("(min-width: 64rem)");

export async function queueView({ parts, query, signal, refused }) {
  const [, name, , queueName, rank] = parts;
  const rows = (offset) =>
    get(`${path("runs", name, "queues", queueName)}?limit=${ROWS_AT_ONCE}&offset=${offset}`, signal);
  const [run, queue] = await Promise.all([get(path("runs", name), signal), rows(0)]);
  // A link to a row far down shows it.
  while (queue.rows.length < Math.min(Number(rank) || 0, queue.num_rows)) {
    queue.rows.push(...(await rows(queue.rows.length)).rows);
  }
  return new QueuePage(run, queue, { rank: Number(rank) || null, query, signal, refused, rows }).element;
}

class QueuePage {
  constructor(run, queue, { rank, query, signal, refused, rows }) {
    Object.assign(this, { run, queue, refused, fetch: rows, failed: new Set(), elements: new Map() });
    this.filter = { given: query.get("given") || "", prediction: query.get("prediction") || "", show: query.get("show") || "" };
    this.progress = run.reviews;
    this.before = queue.num_reviewed - queue.rows.filter((row) => row.verdict !== null).length;
    this.largest = Math.max(...queue.rows.map((row) => row.loss), 0);
    this.reviews = new Reviews(run.run, queue, (row, error) => this.changed(row, error));
    this.actions = {
      keep: () => this.say("ok"), accept: () => this.accept(), other: () => this.other(), skip: () => this.go(1, "Skipped. "),
      undo: () => this.undo(), next: () => this.go(1), previous: () => this.go(-1), help: showKeys,
    };
    this.#build();
    this.list();
    const wanted = queue.rows.find((row) => row.rank === rank);
    this.select(wanted || this.visible().find((row) => row.verdict === null) || this.visible()[0], { quiet: true });
    listen((action) => this.actions[action](), signal);
    window.addEventListener("beforeunload", (event) => { if (this.reviews.unsaved) event.preventDefault(); }, { signal });
  }

  #build() {
    const { run, queue } = this;
    this.tiles = h("dl", { class: "tiles" });
    this.told = h("div", {});
    this.content = h("div", { class: "focus-content" });
    this.buttons = Object.fromEntries(ACTIONS.map(([name, keys, word, meaning]) => [name, h("button", {
      type: "button", class: `act ${name}`, title: meaning, "aria-keyshortcuts": keys.join(" "), onclick: () => this.actions[name](),
    }, h("span", {}, word), h("kbd", { "aria-hidden": "true" }, shownKey(keys[0])))]));
    const { keep, accept, other, skip, undo, next, previous, help } = this.buttons;
    this.body = h("tbody", {});
    this.count = h("p", { class: "muted count", role: "status" });
    this.more = h("button", { type: "button", onclick: () => this.loadMore() });
    this.element = h("section", { class: "queue" },
      crumbs(["Runs", "#/"], [run.run, toRun(run.run)], [queue.name]),
      h("h1", { class: "wrap" }, queue.name),
      h("p", { class: "lead" }, this.#asked()),
      queue.warnings.length > 0 && h("ul", { class: "notice warn" }, queue.warnings.map((text) => h("li", {}, text))),
      h("div", { class: "review" },
        h("section", { class: "focus", "aria-label": "Row under review" }, this.told,
          h("div", { class: "card" }, this.content,
            h("div", { class: "actions", role: "group", "aria-label": "Verdict" },
              keep, accept, other, h("div", { class: "small-actions" }, skip, undo, help, previous, next)))),
        h("div", { class: "rows" }, this.tiles, this.#filters(), this.count,
          h("div", { class: "card table-card" }, h("table", { class: "stacked rows-table" },
            h("caption", { class: "hidden-text" }, "Rows of the queue, the most suspicious first"),
            head(["#"], "Example", "Given → suggested", "Why it is here", "Loss", "Verdict"),
            this.body)), this.more)));
    this.tell();
  }

  #asked() {
    const { request, strategy, epoch } = this.queue;
    const quota = typeof request.per_class === "string" ? `, ${request.per_class} per class`
      : request.per_class ? `, at most ${Object.entries(request.per_class).map(([label, most]) =>
        `${most} ${className(this.run, Number(label))}`).join(", ")}` : "";
    return `${strategyName(strategy)}, up to ${number(request.budget)} rows${quota}, from epoch ${epoch}.`;
  }

  #filters() {
    const choice = (name, label, options) => {
      const select = h("select", { id: `filter-${name}`, onchange: () => {
        this.filter[name] = select.value;
        this.list();
        const visible = this.visible();
        if (!visible.includes(this.current)) this.select(visible[0], { quiet: true });
        else this.remember();
      } }, options);
      select.value = this.filter[name];
      if (select.selectedIndex < 0) this.filter[name] = select.value = "";
      return h("div", {}, h("label", { for: `filter-${name}` }, label), select);
    };
    const all = (text) => h("option", { value: "" }, text);
    return h("div", { class: "filters", role: "group", "aria-label": "Filter the rows" },
      choice("given", "Given", [all("any class"), ...classOptions(this.run)]),
      choice("prediction", "Prediction", [all("any class"), ...classOptions(this.run)]),
      choice("show", "Show", [all("all rows"), h("option", { value: "open" }, "open"), h("option", { value: "reviewed" }, "reviewed")]));
  }

  visible() {
    const { given, prediction, show } = this.filter;
    return this.queue.rows.filter((row) => (given === "" || row.target === Number(given))
      && (prediction === "" || row.prediction === Number(prediction))
      && (show === "" || (show === "open") === (row.verdict === null)));
  }

  /** Show the rows that the filter leaves. */
  list() {
    const visible = this.visible();
    this.elements = new Map(visible.map((row) => [row, this.#row(row)]));
    this.body.replaceChildren(...this.elements.values());
    this.#counted(visible.length);
    const left = this.queue.num_rows - this.queue.rows.length;
    this.more.hidden = left === 0;
    this.more.textContent = `Load ${number(Math.min(left, ROWS_AT_ONCE))} more rows`;
    this.mark();
  }

  #counted(visible) {
    const loaded = this.queue.rows.length;
    const rest = loaded < this.queue.num_rows ? `; ${number(loaded)} of ${number(this.queue.num_rows)} are loaded` : "";
    this.count.textContent = visible === loaded ? `${number(loaded)} rows${rest}` : `${number(visible)} of ${number(loaded)} rows${rest}`;
  }

  #row(row) {
    const open = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("a:not(.rank)")) return;
      event.preventDefault();
      this.select(row);
      if (!WIDE.matches) this.element.querySelector(".focus").scrollIntoView({ block: "start" });
    };
    return h("tr", { onclick: open },
      h("td", { class: "num" }, h("a", { class: "rank", href: toQueue(this.run.run, this.queue.name, row.rank, this.filter),
        "aria-label": `Row ${row.rank}` }, String(row.rank))),
      h("th", { scope: "row", class: "brief" }, shown(row), this.#exampleLink(row)),
      h("td", { "data-label": "Given → suggested" }, labels(this.run, row)),
      h("td", { class: "why" }, sentence(row.reason)),
      h("td", { class: "loss", "data-label": "Loss" }, h("span", { class: "progress" }, bar(row.loss / (this.largest || 1), "bad"), number(row.loss, 3))),
      h("td", { class: "end", "data-label": "Verdict" }, verdictBadge(this.run, row)));
  }

  #exampleLink(row) {
    return h("a", { class: "id", href: toExample(this.run.run, row.id, { queue: this.queue.name, row: row.rank }) }, row.id);
  }

  /** Make a row the one that keys and buttons are about. */
  select(row, { quiet = false, said = "" } = {}) {
    this.current = row || null;
    this.mark();
    this.focus();
    this.remember();
    if (row && !quiet) announce(`${said}Row ${row.rank}: ${row.id}, given ${className(this.run, row.target)}.`);
    const element = this.elements.get(row);
    if (element && WIDE.matches) element.scrollIntoView({ block: "nearest" });
  }

  /** Keep the address that of the row in view. */
  remember() {
    history.replaceState(null, "", toQueue(this.run.run, this.queue.name, this.current?.rank, this.filter));
  }

  mark() {
    for (const [row, element] of this.elements) {
      if (row === this.current) element.setAttribute("aria-current", "true");
      else element.removeAttribute("aria-current");
    }
  }

  /** The row under review, large. */
  focus() {
    const row = this.current;
    for (const name of ["keep", "accept", "other", "skip"]) this.buttons[name].disabled = !row;
    if (!row) {
      this.content.replaceChildren(h("p", { class: "muted" }, "No row fits the filter."));
      return;
    }
    const none = row.suggested === null;
    this.buttons.accept.disabled = none;
    this.buttons.accept.firstChild.textContent = none ? "No suggestion" : `Accept ${className(this.run, row.suggested)}`;
    this.buttons.keep.firstChild.textContent = `Keep ${className(this.run, row.target)}`;
    this.content.replaceChildren(
      h("div", { class: "focus-head" }, h("span", { class: "muted" }, `Row ${row.rank} of ${number(this.queue.num_rows)}, `,
        `${number(this.reviewed())} reviewed`), verdictBadge(this.run, row)),
      h("p", { class: "big-labels" }, labels(this.run, row)),
      shown(row, { rest: true }),
      h("p", { class: "reason" }, sentence(row.reason)),
      h("p", { class: "more" }, this.#exampleLink(row)));
  }

  say(verdict, label = null) {
    const row = this.current;
    if (!row) return;
    const visible = this.visible();
    const after = visible.slice(visible.indexOf(row) + 1).find((one) => one.verdict === null && !one.saving);
    this.reviews.say(row, verdict, label);
    const said = `${verdictText(this.run, verdict, label)}. `;
    if (after) this.select(after, { said });
    else announce(`${said}No open row follows.`);
  }

  accept() {
    if (this.current && this.current.suggested !== null) this.say("wrong", this.current.suggested);
    else announce("The model suggests no other label for this row.");
  }

  other() {
    const row = this.current;
    if (!row) return;
    const classes = h("select", { id: "other-class", size: 8, autofocus: true, required: true }, classOptions(this.run));
    for (const option of classes.options) if (Number(option.value) === row.target) option.disabled = true;
    const choose = h("button", { class: "primary", value: "save" }, "Save");
    classes.addEventListener("keydown", (event) => { if (event.key === "Enter" && classes.value) { event.preventDefault(); choose.click(); } });
    classes.addEventListener("dblclick", () => choose.click());
    dialog("Other label", h("form", { method: "dialog" },
      h("h2", {}, "Which class is it?"),
      h("label", { for: "other-class" }, "Type its first letters, then Enter"), classes,
      h("div", { class: "buttons" }, h("button", { value: "", formnovalidate: true, type: "submit" }, "Cancel"), choose)),
    () => { this.select(row, { quiet: true }); this.say("wrong", Number(classes.value)); });
  }

  undo() {
    const row = this.reviews.undo(this.current);
    if (!row) announce("There is nothing to take back.");
    else this.select(row, { said: "Taken back. " });
  }

  go(step, said = "") {
    const visible = this.visible();
    const place = visible.indexOf(this.current);
    const next = place < 0 ? visible[0] : visible[place + step];
    if (next) this.select(next, { said });
    else announce(step > 0 ? "This is the last row." : "This is the first row.");
  }

  /** A row's verdict is on its way, kept, or was not taken. */
  changed(row, error = null) {
    if (error) {
      if (this.refused(error)) return;
      this.failed.add(row);
      const ranks = [...this.failed].map((one) => one.rank).join(", ");
      this.told.replaceChildren(problem(error), h("p", { class: "muted" }, `Not kept: row ${ranks}.`));
      this.select(row, { quiet: true });
    } else if (!row.saving && this.failed.delete(row) && !this.failed.size) this.told.replaceChildren();
    if (this.reviews.progress) this.progress = this.reviews.progress;
    const fits = this.visible().includes(row);
    const shownNow = this.elements.get(row);
    if (!row.saving && fits !== Boolean(shownNow)) this.list();
    else if (shownNow) {
      const fresh = this.#row(row);
      shownNow.replaceWith(fresh);
      this.elements.set(row, fresh);
      this.mark();
    }
    this.focus();
    this.tell();
  }

  reviewed() {
    return this.before + this.queue.rows.filter((row) => row.verdict !== null).length;
  }

  /** Progress and precision so far. */
  tell() {
    const { rows, num_rows: all, strategy, expected_yield: expected } = this.queue;
    const reviewed = this.reviewed();
    const judged = rows.filter((row) => row.verdict === "ok" || row.verdict === "wrong");
    const wrong = judged.filter((row) => row.verdict === "wrong").length;
    const [share, sure] = precisionText(this.progress.precision[strategy]);
    this.tiles.replaceChildren(
      tile("Reviewed", h("span", {}, `${number(reviewed)} of ${number(all)}`), bar(reviewed / all, "good")),
      tile("Wrong labels here", judged.length ? `${number(wrong)} of ${number(judged.length)}` : "–", "of the rows judged so far"),
      tile("Precision of the strategy", share, sure),
      tile("Expected in all rows", `about ${number(Math.round(expected.wrong_labels))}`, h("span", { class: "caveat" }, expected.caveat)));
  }

  async loadMore() {
    this.more.disabled = true;
    try {
      this.queue.rows.push(...(await this.fetch(this.queue.rows.length)).rows);
      this.before = Math.max(0, this.queue.num_reviewed - this.queue.rows.filter((row) => row.verdict !== null).length);
      this.list();
    } catch (error) {
      if (!this.refused(error)) this.told.replaceChildren(problem(error));
    }
    this.more.disabled = false;
  }
}
