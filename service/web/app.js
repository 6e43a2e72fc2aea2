// Which view is shown, and signing in where the service asks for a key.

import { call, get } from "./lib/api.js";
import { classesView } from "./views/classes.js";
import { compareView } from "./views/compare.js";
import { h, loading, problem } from "./lib/dom.js";
import { exampleView } from "./views/example.js";
import { examplesView } from "./views/examples.js";
import { exportView } from "./views/export.js";
import { mapView } from "./views/map.js";
import { queueView } from "./views/queue.js";
import { here } from "./lib/route.js";
import { runView } from "./views/run.js";
import { runsView } from "./views/runs.js";
import { signInView } from "./views/signin.js";

const main = document.getElementById("main");
const signOut = document.getElementById("sign-out");
let leave = new AbortController();

/** The views of a run beside its first one, by their place in the address. */
const PLACES = {
  classes: ["Classes", classesView],
  examples: ["Examples", examplesView],
  map: ["Data map", mapView],
  compare: ["Compare", compareView],
  export: ["Export", exportView],
};

/** A view is `async (context) => element`; `context.signal` ends with it. */
function chosen(parts) {
  if (parts.length === 0) return ["Runs", runsView];
  if (parts[0] !== "runs" || parts.length < 2) return null;
  if (parts.length === 2) return [parts[1], runView];
  if (parts[2] === "queues" && parts.length <= 5) return [`${parts[3]} – ${parts[1]}`, queueView];
  if (parts[2] === "examples" && parts.length === 4) return [`${parts[3]} – ${parts[1]}`, exampleView];
  const place = parts.length === 3 && PLACES[parts[2]];
  return place ? [`${place[0]} – ${parts[1]}`, place[1]] : null;
}

async function show({ focus = true } = {}) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const { parts, query } = here();
  const found = chosen(parts);
  document.title = `${found ? found[0] : "Not found"} · Focal Loss Service`;
  main.setAttribute("aria-busy", "true");
  const late = setTimeout(() => main.replaceChildren(loading()), 200);
  let content;
  try {
    content = found ? await found[1]({ parts, query, signal, refused }) : nowhere();
  } catch (error) {
    content = error.status === 401 ? signInView(signedIn) : h("section", {}, problem(error), back());
  }
  clearTimeout(late);
  if (signal.aborted) return;
  main.replaceChildren(content);
  main.removeAttribute("aria-busy");
  const wanted = main.querySelector("[data-focus]");
  if (wanted) wanted.focus();
  else if (focus) main.focus({ preventScroll: true });
}

/** A later call of a view may fail as well: a session ends. */
function refused(error) {
  if (error.status !== 401) return false;
  leave.abort();
  signOut.hidden = true;
  main.replaceChildren(signInView(signedIn));
  main.querySelector("[data-focus]").focus();
  return true;
}

function nowhere() {
  return h("section", {}, h("h1", {}, "There is nothing at this address"), back());
}

function back() {
  return h("p", {}, h("a", { href: "#/" }, "All runs"));
}

async function signedIn() {
  await session();
  await show();
}

async function session() {
  const state = await get("session").catch(() => ({ signed_in: false }));
  signOut.hidden = !state.signed_in;
}

signOut.addEventListener("click", async () => {
  await call("DELETE", "session").catch(() => null);
  await signedIn();
});
document.querySelector(".skip-link").addEventListener("click", (event) => {
  // The address after the `#` is the view's.
  event.preventDefault();
  main.focus();
});
globalThis.addEventListener("hashchange", () => show());
session();
show({ focus: false });
