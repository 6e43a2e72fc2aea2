// A queue, the page that people live in: one row at a time with everything needed to judge it, and the list beside.
// The list comes a page at a time, filtered and sorted by the service: a queue may have 100 000 rows.

import { get, path } from "../lib/api.js";
import { bulkBar, MOST_SELECTED, Selection } from "../components/bulk.js";
import { chooseClass } from "../components/class_dialog.js";
import { className, crumbs, labels, shown, verdictBadge, verdictText } from "../components/parts.js";
import { describeQueue } from "../components/queue_description.js";
import { filters } from "../components/queue_filters.js";
import { progressTiles } from "../components/queue_progress.js";
import { exampleLink, queueHead, queueRow, showCounts } from "../components/queue_table.js";
import { announce, h, number, problem, sentence } from "../lib/dom.js";
import { ACTIONS, listen, showKeys, shownKey } from "../lib/keys.js";
import { QueueQuery, TABS } from "../lib/queue_query.js";
import { Reviews } from "../lib/review.js";
import { address, toQueue, toRun } from "../lib/route.js";

const ROWS_AT_ONCE = 100;
/** What of a row is needed to say something of it. */
const BRIEF = "id,rank,target,suggested,verdict,verdict_label";
const WIDE = matchMedia("(min-width: 64rem)");

export async function queueView({ parts, query, signal, refused }) {
  const [, name, , queueName, rank] = parts;
  const ask = (text) => get(`${path("runs", name, "queues", queueName)}?${text}`, signal);
  const asked = new QueueQuery(query);
  const wanted = Number(rank) || null;
  const [run, hardest, open] = await Promise.all([
    get(path("runs", name), signal),
    ask("sort=-loss&limit=1&fields=loss&facets=true"),
    wanted
      ? null
      : ask(`${asked.inApi()}${asked.inApi() && "&"}${asked.filters.show ? "" : "verdict=open&"}limit=1&fields=rank`),
  ]);
  const page = new QueuePage(run, hardest, { asked, ask, signal, refused });
  await page.load({ around: wanted || open?.rows[0]?.rank || 0 });
  page.list();
  page.select(page.rows.find((row) => row.rank === wanted) || page.firstOpen() || page.visible()[0], { quiet: true });
  return page.element;
}

class QueuePage {
  constructor(run, queue, { asked, ask, signal, refused }) {
    Object.assign(this, { run, queue, asked, ask, refused, failed: new Set(), elements: new Map(), known: new Map() });
    Object.assign(this, {
      rows: [],
      offset: 0,
      matching: queue.num_rows,
      current: null,
      turning: null,
      asking: 0,
      wide: WIDE,
    });
    this.progress = run.reviews;
    this.largest = queue.rows[0]?.loss || 0;
    this.reviews = new Reviews(run.run, queue.name, (rows, error) => this.changed(rows, error));
    this.selection = new Selection(() => this.picked());
    this.actions = {
      keep: () => this.say("ok"),
      accept: () => this.accept(),
      other: () => this.other(),
      unsure: () => this.say("unsure"),
      skip: () => this.go(1, "Skipped. "),
      undo: () => this.undo(),
      next: () => this.go(1),
      previous: () => this.go(-1),
      pick: () => this.pick(),
      help: showKeys,
    };
    this.#build();
    listen((action) => this.act(action), signal);
    globalThis.addEventListener("beforeunload", (event) => {
      if (this.reviews.unsaved) event.preventDefault();
    }, { signal });
  }

  /** What is asked for while a page comes is done when it is there. */
  act(action) {
    if (this.turning) this.turning.then(() => this.act(action));
    else this.actions[action]();
  }

  #build() {
    const { run, queue } = this;
    this.tiles = h("dl", { class: "tiles" });
    this.told = h("div", {});
    this.content = h("div", { class: "focus-content" });
    this.buttons = Object.fromEntries(ACTIONS.map(([name, keys, word, meaning]) => [
      name,
      h(
        "button",
        {
          type: "button",
          class: `act ${name}`,
          title: meaning,
          "aria-keyshortcuts": keys.join(" "),
          onclick: () => this.act(name),
        },
        h("span", {}, word),
        h("kbd", { "aria-hidden": "true" }, shownKey(keys[0])),
      ),
    ]));
    const { keep, accept, other, unsure, skip, undo, next, previous, help } = this.buttons;
    this.body = h("tbody", {});
    this.count = h("p", { class: "muted count", role: "status" });
    this.filters = filters(run, queue.attributes, this.asked, (what) => this.reordered(what), WIDE.matches);
    this.tabs = Object.fromEntries(
      TABS.map((tab) => [tab, h("button", { type: "button", onclick: () => this.show(tab) })]),
    );
    this.bulk = bulkBar(run, this.selection, {
      say: (step, done) => this.sayAll(step, done),
      chooseClass: (act) => chooseClass(run, null, act),
    });
    this.pageBox = h("input", {
      type: "checkbox",
      id: "select-page",
      onchange: () => this.selection.set(this.visible(), this.pageBox.checked),
    });
    this.everything = h("button", { type: "button", class: "quiet", onclick: () => this.selectMatching() });
    this.back = h("button", { type: "button", onclick: () => this.turn(-1, { look: true }) }, "Previous page");
    this.forth = h("button", { type: "button", onclick: () => this.turn(1, { look: true }) }, "Next page");
    this.pages = h("nav", { class: "pages", "aria-label": "Pages of the queue" }, this.back, this.forth);
    this.element = h(
      "section",
      { class: "queue" },
      crumbs(["Runs", "#/"], [run.run, toRun(run.run)], [queue.name]),
      h("h1", { class: "wrap" }, queue.name),
      h(
        "p",
        { class: "lead" },
        describeQueue(run, queue),
        " ",
        h("a", { href: address(["runs", run.run, "export"], { queue: queue.name }) }, "Export it"),
      ),
      queue.warnings.length > 0 && h("ul", { class: "notice warn" }, queue.warnings.map((text) => h("li", {}, text))),
      h(
        "div",
        { class: "review" },
        h(
          "section",
          { class: "focus", "aria-label": "Row under review" },
          this.told,
          h(
            "div",
            { class: "card" },
            this.content,
            h(
              "div",
              { class: "actions", role: "group", "aria-label": "Verdict" },
              keep,
              accept,
              other,
              unsure,
              h("div", { class: "small-actions" }, skip, undo, help, previous, next),
            ),
          ),
        ),
        h(
          "div",
          { class: "rows" },
          this.tiles,
          this.filters,
          h("div", { class: "tabs", role: "group", "aria-label": "Which rows" }, Object.values(this.tabs)),
          this.bulk,
          h(
            "div",
            { class: "over-table" },
            h("label", { class: "check", for: "select-page" }, this.pageBox, "Select this page"),
            this.everything,
            this.count,
          ),
          h(
            "div",
            { class: "card table-card" },
            h(
              "table",
              { class: "stacked rows-table" },
              h("caption", { class: "hidden-text" }, "Rows of the queue"),
              queueHead(this),
              this.body,
            ),
          ),
          this.pages,
        ),
      ),
    );
  }

  /** The rows of a page that still fit. */
  visible() {
    return this.rows.filter((row) => this.asked.fits(row));
  }

  firstOpen() {
    return this.visible().find((row) => row.verdict === null && !row.saving);
  }

  /** Ask for a page: from an offset on, or around the row of a rank. The rows of the last call win. */
  async load({ offset = 0, around = null }) {
    const number = (this.asking += 1);
    // What was said has to be known to the service, or rows that do not fit any more would come.
    await this.reviews.waiting;
    const page = this.asked.tab === "selected"
      ? await this.#selectedPage(offset, around)
      : await this.ask(this.asked.inApi({ limit: ROWS_AT_ONCE, ...(around ? { around } : { offset }) }));
    const others = this.asked.tab !== "filtered" && this.asked.narrows
      ? await this.ask(this.asked.inApi({ filtered: true, limit: 1, fields: "rank" }))
      : null;
    if (number !== this.asking) return false;
    this.rows = page.rows.map((row) => this.#same(row));
    Object.assign(this, { offset: page.offset, matching: page.num_matching });
    this.narrowed = others ? others.num_matching : this.asked.tab === "filtered" ? page.num_matching : page.num_rows;
    this.queue = { ...page, rows: null, attributes: this.queue.attributes };
    this.reviews.counted = { ok: 0, wrong: 0, unsure: 0 };
    return true;
  }

  /** A page of the selected rows, by rank. */
  async #selectedPage(offset, around) {
    const rows = this.selection.rows;
    const place = around ? rows.findIndex((row) => row.rank === around) : offset;
    const from = Math.max(0, around ? place - (place % ROWS_AT_ONCE) : offset);
    // Without ranks it would be all of them.
    const ranks = rows.slice(from, from + ROWS_AT_ONCE).map((row) => row.rank).join(",") || "0";
    const page = await this.ask(`ranks=${ranks}&limit=${ROWS_AT_ONCE}`);
    return { ...page, offset: from, num_matching: rows.length };
  }

  /** A row that is known already stays the same object: it may be selected, or on its way. */
  #same(row) {
    const known = this.known.get(row.id);
    if (!known) this.known.set(row.id, row);
    else if (known.saving) Object.assign(known, { ...row, verdict: known.verdict, verdict_label: known.verdict_label });
    else Object.assign(known, row);
    return known || row;
  }

  /** Show the rows that fit. */
  list() {
    const visible = this.visible();
    this.elements = new Map(visible.map((row) => [row, queueRow(this, row)]));
    this.body.replaceChildren(...this.elements.values());
    showCounts(this, visible.length);
    this.mark();
    this.picked();
    this.tell();
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

  /** Keep the address that of the row and the view. */
  remember() {
    history.replaceState(null, "", toQueue(this.run.run, this.queue.name, this.current?.rank, this.asked.inAddress));
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
    for (const name of ["keep", "accept", "other", "unsure", "skip"]) this.buttons[name].disabled = !row;
    if (!row) {
      const none = this.asked.tab === "selected" ? "No row is selected." : "No row fits the filter.";
      this.content.replaceChildren(h("p", { class: "muted" }, none));
      return;
    }
    const none = row.suggested === null;
    this.buttons.accept.disabled = none;
    this.buttons.accept.firstChild.textContent = none
      ? "No suggestion"
      : `Accept ${className(this.run, row.suggested)}`;
    this.buttons.keep.firstChild.textContent = `Keep ${className(this.run, row.target)}`;
    this.content.replaceChildren(
      h(
        "div",
        { class: "focus-head" },
        h(
          "span",
          { class: "muted" },
          `Row ${number(row.rank)} of ${number(this.queue.num_rows)}, `,
          `${number(this.said().reviewed)} reviewed`,
        ),
        verdictBadge(this.run, row),
      ),
      h("p", { class: "big-labels" }, labels(this.run, row)),
      shown(row, { rest: true }),
      h("p", { class: "reason" }, sentence(row.reason)),
      h("p", { class: "more" }, exampleLink(this, row)),
    );
  }

  say(verdict, label = null) {
    const row = this.current;
    if (!row) return;
    const visible = this.visible();
    const after = visible.slice(visible.indexOf(row) + 1).find((one) => one.verdict === null && !one.saving);
    this.reviews.say([{ row, verdict, label }]);
    const said = `${verdictText(this.run, verdict, label)}. `;
    if (after) this.select(after, { said });
    else if (!this.forth.disabled) this.turn(1, { said, open: true });
    else announce(`${said}No open row follows.`);
  }

  /** Say something of many rows in one step. */
  sayAll(step, done) {
    if (step.length) this.reviews.say(step);
    this.selection.clear();
    announce(done);
    this.told.replaceChildren(
      h("p", { class: "notice done" }, done, step.length ? "Undo takes the whole step back." : ""),
    );
    if (this.asked.tab === "selected") this.show(this.asked.usualTab);
  }

  accept() {
    if (this.current && this.current.suggested !== null) this.say("wrong", this.current.suggested);
    else announce("The model suggests no other label for this row.");
  }

  other() {
    const row = this.current;
    if (row) {
      chooseClass(this.run, row.target, (label) => {
        this.select(row, { quiet: true });
        this.say("wrong", label);
      });
    }
  }

  undo() {
    const rows = this.reviews.undo(this.current);
    if (!rows) {
      announce("There is nothing to take back.");
      return;
    }
    this.told.replaceChildren();
    const said = rows.length > 1 ? `Taken back for ${number(rows.length)} rows. ` : "Taken back. ";
    if (this.rows.includes(rows[0])) this.select(rows[0], { said });
    else if (rows.length > 1) announce(said);
    else this.turn(0, { said, around: rows[0].rank });
  }

  go(step, said = "") {
    const visible = this.visible();
    const place = visible.indexOf(this.current);
    const next = place < 0 ? visible[0] : visible[place + step];
    if (next) this.select(next, { said });
    else if (!(step > 0 ? this.forth : this.back).disabled) this.turn(step, { said });
    else announce(step > 0 ? "This is the last row." : "This is the first row.");
  }

  /** Go to the next page, to the one before, or to that of a rank; at its first row, its last, its first open, or that one. */
  turn(step, { said = "", open = false, around = null, look = false } = {}) {
    const offset = step > 0 ? this.offset + this.visible().length : Math.max(0, this.offset - ROWS_AT_ONCE);
    return this.come(around ? { around } : { offset }, () => {
      const visible = this.visible();
      const wanted = around ? visible.find((row) => row.rank === around) : open ? this.firstOpen() : null;
      this.select(wanted || visible[step < 0 && !look ? visible.length - 1 : 0], { said });
      if (look) this.element.querySelector(".rows-table").scrollIntoView({ block: "start" });
    });
  }

  /** Ask for rows and show them, then do the rest; keys wait for it. */
  come(where, then) {
    const turning = (async () => {
      try {
        if (!(await this.load(where))) return;
        this.list();
        then();
      } catch (error) {
        if (error.name !== "AbortError" && !this.refused(error)) this.told.replaceChildren(problem(error));
      } finally {
        if (this.turning === turning) this.turning = null;
      }
    })();
    this.turning = turning;
    return turning;
  }

  /** Filter, order or tab have changed: stay at the row if it is still there. */
  reordered(what) {
    if (what === "filter") this.asked.tab = this.asked.usualTab;
    this.filters.refresh();
    const row = this.current;
    return this.come({ around: row?.rank }, () => {
      this.select(this.visible().includes(row) ? row : this.firstOpen() || this.visible()[0], { quiet: true });
    });
  }

  show(tab) {
    this.asked.tab = tab;
    return this.reordered("tab");
  }

  pick() {
    if (!this.current) return;
    this.selection.set([this.current], !this.selection.has(this.current));
    announce(
      `Row ${this.current.rank} ${this.selection.has(this.current) ? "selected" : "not selected any more"}; ${
        number(this.selection.size)
      } in all.`,
    );
  }

  /** Select all rows that match, those too that are not here. */
  async selectMatching() {
    this.everything.disabled = true;
    try {
      const found = await this.ask(this.asked.inApi({ limit: MOST_SELECTED, fields: BRIEF }));
      this.selection.set(found.rows.map((row) => this.#same(row)), true);
      if (found.num_matching > MOST_SELECTED) {
        this.told.replaceChildren(
          h(
            "p",
            { class: "notice done" },
            `The first ${number(MOST_SELECTED)} are selected: more do not go in one step.`,
          ),
        );
      }
    } catch (error) {
      if (!this.refused(error)) this.told.replaceChildren(problem(error));
    }
    this.everything.disabled = false;
  }

  /** The selection has changed. */
  picked() {
    const visible = this.visible();
    for (const [row, element] of this.elements) {
      const chosen = this.selection.has(row);
      element.classList.toggle("picked", chosen);
      element.querySelector("input").checked = chosen;
    }
    const chosen = visible.filter((row) => this.selection.has(row)).length;
    this.pageBox.checked = visible.length > 0 && chosen === visible.length;
    this.pageBox.indeterminate = chosen > 0 && chosen < visible.length;
    this.pageBox.disabled = visible.length === 0;
    const all = this.matching - (this.rows.length - visible.length);
    this.everything.hidden = this.asked.tab === "selected" || all <= visible.length ||
      this.selection.size >= Math.min(all, MOST_SELECTED);
    this.everything.textContent = `Select all ${number(all)}${this.asked.tab === "filtered" ? " that match" : ""}`;
    this.bulk.refresh();
    showCounts(this, visible.length);
  }

  /** The verdicts of rows are on their way, kept, or were not taken. */
  changed(rows, error = null) {
    if (error) {
      if (this.refused(error)) return;
      for (const row of rows) this.failed.add(row);
      const ranks = [...this.failed].map((one) => one.rank).sort((one, other) => one - other);
      const some = ranks.length > 10
        ? `${ranks.slice(0, 10).join(", ")} and ${ranks.length - 10} more`
        : ranks.join(", ");
      this.told.replaceChildren(problem(error), h("p", { class: "muted" }, `Not kept: row ${some}.`));
      if (rows.length === 1) this.select(rows[0], { quiet: true });
    } else {
      const before = this.failed.size;
      for (const row of rows) if (!row.saving) this.failed.delete(row);
      if (before && !this.failed.size) this.told.replaceChildren();
    }
    if (this.reviews.progress) this.progress = this.reviews.progress;
    const moved = rows.some((row) =>
      !row.saving && this.rows.includes(row) && this.asked.fits(row) !== this.elements.has(row)
    );
    if (moved) this.list();
    else {
      for (const row of rows) {
        const shownNow = this.elements.get(row);
        if (!shownNow) continue;
        const fresh = queueRow(this, row);
        fresh.classList.toggle("picked", this.selection.has(row));
        shownNow.replaceWith(fresh);
        this.elements.set(row, fresh);
      }
      this.mark();
    }
    this.focus();
    this.tell();
  }

  /** How many rows of the queue have which verdict, as far as the service has kept it. */
  said() {
    const { counted } = this.reviews;
    const wrong = this.queue.num_wrong + counted.wrong;
    const judged = wrong + this.queue.num_ok + counted.ok;
    return { wrong, judged, reviewed: this.queue.num_reviewed + counted.ok + counted.wrong + counted.unsure };
  }

  /** Progress and precision so far. */
  tell() {
    const precision = this.progress.precision[this.queue.strategy];
    this.tiles.replaceChildren(...progressTiles(this.queue, this.said(), precision));
  }
}
