// Queues that a chart, a table or a list asks for with one click.

import { call, path } from "../lib/api.js";
import { problem } from "../lib/dom.js";
import { toQueue } from "../lib/route.js";

/**
 * Make a queue, or take the one that the same click made before, and go to it.
 *
 * @param run The name of the run.
 * @param request As the API takes it; its name is only a wish.
 * @param told An element for what the service says against it.
 * @param refused Told of errors first; true where it has dealt with one.
 */
export async function openQueue(run, request, told, refused) {
  try {
    const made = await asked(run, request);
    location.hash = toQueue(run, made.name);
  } catch (error) {
    if (!refused(error)) told.replaceChildren(problem(error));
  }
}

async function asked(run, request) {
  try {
    return await call("POST", path("runs", run, "queues"), request);
  } catch (error) {
    if (error.code !== "queue_conflict") throw error;
    // The name is taken by another request: the service finds one.
    return call("POST", path("runs", run, "queues"), { ...request, name: null });
  }
}

/** A name as queues may have it, out of words that may hold anything. */
export function queueName(...words) {
  return words.join("-").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 100) || null;
}
