// HTTP calls of the service's public API.

/** @import { Fault, ProblemReply } from "../types.d.ts" */

/** An error reply of the service: its status, code and message. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {ProblemReply} reply
   */
  constructor(status, reply) {
    super(reply.detail || `The service answered ${status}.`);
    this.status = status;
    this.code = reply.code || "";
    this.title = reply.title || "Something went wrong";
    /** @type {Fault[]} */
    this.errors = reply.errors || [];
    this.current = reply.current;
  }
}

const noReply = () =>
  new Problem(0, { title: "No answer", detail: "The service does not answer. Is it still running?" });

/**
 * A URL path of these parts. Slashes in a part (an example id may have them) stay.
 *
 * @param {...unknown} parts
 */
export function path(...parts) {
  return parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/");
}

/**
 * Send a request. Returns the status and the JSON content of the reply, null for a 204.
 *
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ status: number, content: any }>}
 */
export async function request(method, url, body, signal) {
  const reply = await fetchReply(method, url, body, signal);
  return { status: reply.status, content: reply.status === 204 ? null : await reply.json() };
}

/**
 * Send a request. Throws a Problem unless the status is 2xx.
 *
 * @param {string} method
 * @param {string} url
 * @param {unknown} body
 * @param {AbortSignal} [signal]
 */
async function fetchReply(method, url, body, signal) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  /** @type {RequestInit} */
  const options = { method, headers, credentials: "same-origin", cache: "no-store", signal };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply;
  try {
    reply = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw noReply();
  }
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
  return reply;
}

/**
 * Send a request. Returns the JSON content of the reply.
 *
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const call = async (method, url, body, signal) => (await request(method, url, body, signal)).content;

/**
 * @param {string} url
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const get = (url, signal) => call("GET", url, undefined, signal);

/**
 * GET a reply that is not JSON, as text.
 *
 * @param {string} url
 * @param {AbortSignal} [signal]
 */
export const getText = async (url, signal) => (await fetchReply("GET", url, undefined, signal)).text();

/**
 * Send a file, by PUT or another method. `progress` is called with the number of bytes sent, which only XMLHttpRequest reports.
 *
 * @param {string} url
 * @param {File} file
 * @param {string} mediaType
 * @param {{ method?: string, progress: (bytes: number) => void, signal: AbortSignal }} options
 * @returns {Promise<any>}
 */
export function upload(url, file, mediaType, { method = "PUT", progress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", mediaType);
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request.response);
      else reject(new Problem(request.status, request.response || {}));
    });
    request.addEventListener("error", () => reject(noReply()));
    request.addEventListener("abort", () => reject(new DOMException("It was cancelled.", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
