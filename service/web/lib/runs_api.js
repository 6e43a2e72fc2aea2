// The calls of the API that read and write runs, with the types of their replies.

import { call, get, path } from "./api.js";
import { callerParameter } from "./session.js";

/** @import * as api from "../types.d.ts" */
/** @typedef {Record<string, any>} Query */

/**
 * @param {string} url
 * @param {Query | URLSearchParams} query
 */
function withQuery(url, query) {
  const text = new URLSearchParams(query).toString();
  return text ? `${url}?${text}` : url;
}

/**
 * All runs by name. The service knows only name and error of a damaged one.
 *
 * @param {AbortSignal} [signal]
 * @returns {Promise<(api.Run | api.DamagedRun)[]>}
 */
export const getListedRuns = async (signal) => (await get("runs", signal)).runs;

/**
 * All runs but the damaged ones.
 *
 * @param {AbortSignal} [signal]
 */
export const getRuns = async (signal) => (await getListedRuns(signal)).filter(isWhole);

/**
 * @param {api.Run | api.DamagedRun} run
 * @returns {run is api.Run}
 */
export const isWhole = (run) => !("error" in run);

/**
 * @param {string} run
 * @param {AbortSignal} [signal]
 * @returns {Promise<api.Run>}
 */
export const getRun = (run, signal) => get(path("runs", run), signal);

/**
 * @param {string} run
 * @param {AbortSignal} [signal]
 * @returns {Promise<api.Queue[]>}
 */
export const getQueues = async (run, signal) => (await get(path("runs", run, "queues"), signal)).queues;

/**
 * A page of a queue. `query` filters, sorts and pages its rows.
 *
 * @param {string} run
 * @param {string} queue
 * @param {string} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<api.QueuePage>}
 */
export const getQueue = (run, queue, query, signal) => get(`${path("runs", run, "queues", queue)}?${query}`, signal);

/**
 * @param {string} run
 * @param {api.QueueRequest} request
 * @returns {Promise<api.Queue>}
 */
export const postQueue = (run, request) => call("POST", path("runs", run, "queues"), request);

/**
 * Preview a queue without making it.
 *
 * @param {string} run
 * @param {api.QueueRequest} request
 * @param {AbortSignal} signal
 * @returns {Promise<api.QueuePreview>}
 */
export const previewQueue = (run, request, signal) =>
  call("POST", `${path("runs", run, "queues")}?preview=true`, request, signal);

/**
 * Take the next rows of a queue that are free for a person, and hold them for some minutes.
 *
 * @param {string} run
 * @param {string} queue
 * @param {api.Person} person
 * @param {number} limit
 * @returns {Promise<api.LeasedRows>}
 */
export const leaseRows = (run, queue, person, limit) =>
  call("POST", `${path("runs", run, "queues", queue, "next")}?limit=${limit}${callerParameter(person)}`);

/**
 * Give the rows back that a person holds.
 *
 * @param {string} run
 * @param {string} queue
 * @param {api.Person} person
 */
export const giveRowsBack = (run, queue, person) =>
  call("DELETE", `${path("runs", run, "queues", queue, "next")}?${callerParameter(person).slice(1)}`);

/**
 * Store verdicts. Returns the ids of their reviews, and the progress of the run's review.
 *
 * @param {string} run
 * @param {api.ReviewRequest[]} reviews
 * @returns {Promise<api.AddedReviews>}
 */
export const postReviews = (run, reviews) => call("POST", path("runs", run, "reviews"), reviews);

/**
 * The agreement of the reviewers, with the first conflicts.
 *
 * @param {string} run
 * @param {AbortSignal} signal
 * @returns {Promise<api.Agreement>}
 */
export const getAgreement = (run, signal) => get(`${path("runs", run, "agreement")}?limit=5`, signal);

/**
 * The wrong labels that are left.
 *
 * @param {string} run
 * @param {AbortSignal} signal
 * @returns {Promise<api.Remaining>}
 */
export const getRemaining = (run, signal) => get(path("runs", run, "remaining"), signal);

/**
 * @param {string} run
 * @param {Query} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<api.ExamplesPage>}
 */
export const getExamples = (run, query, signal) => get(withQuery(path("runs", run, "examples"), query), signal);

/**
 * @param {string} run
 * @param {string} id
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<api.ExampleDetail>}
 */
export const getExample = (run, id, query, signal) => get(withQuery(path("runs", run, "examples", id), query), signal);

/**
 * @param {string} run
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<api.Diagnostics>}
 */
export const getDiagnostics = (run, query, signal) => get(withQuery(path("runs", run, "diagnostics"), query), signal);

/**
 * @param {string} run
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<api.Dynamics>}
 */
export const getDynamics = (run, query, signal) => get(withQuery(path("runs", run, "dynamics"), query), signal);

/**
 * @param {string} before
 * @param {string} after
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal
 * @returns {Promise<api.Comparison>}
 */
export const getComparison = (before, after, query, signal) =>
  get(withQuery(path("runs", before, "compare", after), query), signal);

/**
 * @param {string} run
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal
 * @returns {Promise<api.ExportPreview>}
 */
export const getExportPreview = (run, query, signal) =>
  get(withQuery(path("runs", run, "export/preview"), query), signal);
