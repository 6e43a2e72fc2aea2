// Shows the view of the address, and the sign-in form if the service needs a key.

import { personBadge } from "./components/person.js";
import { call } from "./lib/api.js";
import { find, h, loading, problem } from "./lib/dom.js";
import { parseAddress } from "./lib/route.js";
import { forgetSession, getPerson, getSession } from "./lib/session.js";
import { classesView } from "./views/classes.js";
import { compareView } from "./views/compare.js";
import { exampleView } from "./views/example.js";
import { examplesView } from "./views/examples.js";
import { exportView } from "./views/export.js";
import { mapView } from "./views/map.js";
import { queueView } from "./views/queue.js";
import { runView } from "./views/run.js";
import { runsView } from "./views/runs.js";
import { signInView } from "./views/signin.js";

/** @import { Failure, View } from "./types.d.ts" */
/** @typedef {(view: View) => Promise<HTMLElement>} ShowView */

const main = find(document, "#main");
const person = find(document, "#person");
const signOut = find(document, "#sign-out");
/** Aborts when the user leaves the view. */
let leave = new AbortController();

/**
 * Views of a run other than its first, by the last part of their address.
 *
 * @type {Record<string, [title: string, view: ShowView]>}
 */
const RUN_VIEWS = {
  classes: ["Classes", classesView],
  examples: ["Examples", examplesView],
  map: ["Data map", mapView],
  compare: ["Compare", compareView],
  export: ["Export", exportView],
};

/**
 * The title and view of an address, null if it has none.
 *
 * @param {string[]} parts
 * @returns {[title: string, view: ShowView] | null}
 */
function route(parts) {
  if (parts.length === 0) return ["Runs", runsView];
  if (parts[0] !== "runs" || parts.length < 2) return null;
  if (parts.length === 2) return [parts[1], runView];
  if (parts[2] === "queues" && parts.length <= 5) return [`${parts[3]} – ${parts[1]}`, queueView];
  if (parts[2] === "examples" && parts.length === 4) return [`${parts[3]} – ${parts[1]}`, exampleView];
  const view = parts.length === 3 && RUN_VIEWS[parts[2]];
  return view ? [`${view[0]} – ${parts[1]}`, view[1]] : null;
}

/** Show the view of the present address. */
async function show({ focus = true } = {}) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const { parts, query } = parseAddress();
  const [title, view] = route(parts) || ["Not found", null];
  document.title = `${title} · Focal Loss Service`;
  main.setAttribute("aria-busy", "true");
  const timer = setTimeout(() => main.replaceChildren(loading()), 200);
  let content;
  try {
    content = view ? await view({ parts, query, signal, refused, again }) : notFound();
  } catch (error) {
    content = error.status === 401 ? signInView(signedIn) : h("section", {}, problem(error), linkToRuns());
  }
  clearTimeout(timer);
  if (signal.aborted) return;
  main.replaceChildren(content);
  main.removeAttribute("aria-busy");
  const wanted = main.querySelector("[data-focus]");
  if (wanted instanceof HTMLElement) wanted.focus();
  else if (focus) main.focus({ preventScroll: true });
}

/**
 * Show the sign-in form if an error is a 401: a session can end while a view is open. True if it was.
 *
 * @param {Failure} error
 */
function refused(error) {
  if (error.status !== 401) return false;
  leave.abort();
  signOut.hidden = true;
  person.replaceChildren();
  main.replaceChildren(signInView(signedIn));
  find(main, "[data-focus]").focus();
  return true;
}

function notFound() {
  return h("section", {}, h("h1", {}, "There is nothing at this address"), linkToRuns());
}

function linkToRuns() {
  return h("p", {}, h("a", { href: "#/" }, "All runs"));
}

/** Show the view again after the user has signed in or out. */
async function signedIn() {
  forgetSession();
  await showSession();
  await show();
}

/** Show the view again after the person has another name. */
async function again() {
  await showSession();
  await show();
}

/** Show the person, and the sign-out button if the user is signed in. */
async function showSession() {
  const session = await getSession();
  signOut.hidden = !session.signed_in;
  person.replaceChildren(session.role === null ? "" : personBadge(await getPerson(), again));
}

signOut.addEventListener("click", async () => {
  await call("DELETE", "session").catch(() => null);
  await signedIn();
});
find(document, ".skip-link").addEventListener("click", (event) => {
  // The part of the address after the `#` belongs to the views.
  event.preventDefault();
  main.focus();
});
globalThis.addEventListener("hashchange", () => show());
showSession();
show({ focus: false });
