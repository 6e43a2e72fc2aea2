// The review of a queue. It may have 100 000 rows, so the service filters, sorts and pages them.

import { QueuePage } from "../components/queue/queue_page.js";
import { ElementsCache } from "../lib/elements_cache.js";
import { listen } from "../lib/keys.js";
import { QueueQuery } from "../lib/queue_query.js";
import { getExample, getQueue, getRun } from "../lib/runs_api.js";
import { callerParameter, getPerson } from "../lib/session.js";

/** @import * as api from "../types.d.ts" */
/** @import { LoadPage } from "../lib/queue_rows.js" */

/** @param {api.View} view */
export async function queueView({ parts, query, signal, refused, again }) {
  const [, name, , queueName, rank] = parts;
  const person = await getPerson();
  /** @type {LoadPage} */
  const loadPage = (parameters) => getQueue(name, queueName, `${parameters}${callerParameter(person)}`, signal);
  const wanted = Number(rank) || null;
  const [run, hardest] = await Promise.all([
    getRun(name, signal),
    loadPage("sort=-loss&limit=1&fields=loss&facets=true"),
  ]);
  const queueQuery = new QueueQuery(query, run);
  const apiQuery = queueQuery.apiQuery();
  const onlyOpen = queueQuery.filters.show ? "" : "verdict=open&";
  const open = wanted ? null : await loadPage(`${apiQuery}${apiQuery && "&"}${onlyOpen}limit=1&fields=rank`);
  const elements = new ElementsCache((id) => getExample(name, id, { epoch: hardest.epoch }, signal));
  const page = new QueuePage(run, hardest, queueQuery, { loadPage, elements, person, signal, refused, again });
  listen((action) => page.act(action), signal);
  globalThis.addEventListener("beforeunload", (event) => {
    if (page.verdicts.reviews.unsaved) event.preventDefault();
  }, { signal });
  const { data } = page;
  await data.load({ around: wanted || open?.rows[0]?.rank || 0 });
  page.showRows();
  page.select(data.rows.find((row) => row.rank === wanted) || data.firstOpen() || data.visible()[0], { quiet: true });
  if (page.free.isOn && !wanted) await page.during(() => page.free.take(""));
  return page.element;
}
