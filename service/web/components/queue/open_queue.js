// Makes the queue of a click on a chart, a table or a list, and opens it.

import { problem } from "../../lib/dom.js";
import { toQueue } from "../../lib/route.js";
import { postQueue } from "../../lib/runs_api.js";
import { className } from "../labels.js";

/** @import { QueueRequest, Refused, Run } from "../../types.d.ts" */

/** The largest budget of a queue. */
export const MAX_BUDGET = 100_000;

/**
 * Make a queue, or take the one that the same request made before, and go to it.
 *
 * @param {string} run
 * @param {QueueRequest} request Its name is used unless another request has taken it.
 * @param {HTMLElement} notice Gets the error, if there is one.
 * @param {Refused} refused
 */
export async function openQueue(run, request, notice, refused) {
  try {
    const queue = await makeQueue(run, request);
    location.hash = toQueue(run, queue.name);
  } catch (error) {
    if (!refused(error)) notice.replaceChildren(problem(error));
  }
}

/**
 * @param {string} run
 * @param {QueueRequest} request
 */
async function makeQueue(run, request) {
  try {
    return await postQueue(run, request);
  } catch (error) {
    if (error.code !== "queue_conflict") throw error;
    // Another request has taken the name: the service chooses one.
    return postQueue(run, { ...request, name: null });
  }
}

/**
 * Make the queue of what has one given class and another predicted class, and go to it.
 *
 * @param {Run} run
 * @param {{ target: number, prediction: number, count: number }} pair `count`: number of rows of the queue.
 * @param {{ strategy: string, epoch: number }} choices
 * @param {HTMLElement} notice Gets the error, if there is one.
 * @param {Refused} refused
 */
export function openPair(run, { target, prediction, count }, { strategy, epoch }, notice, refused) {
  const name = queueName(className(run, target), "taken-for", className(run, prediction), "epoch", epoch);
  const request = { name, strategy, budget: Math.min(count, MAX_BUDGET), epoch, only: { target, prediction } };
  return openQueue(run.run, request, notice, refused);
}

/**
 * A valid queue name of these words, or null.
 *
 * @param {...(string | number)} words
 */
export function queueName(...words) {
  return words.join("-").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 100) || null;
}
