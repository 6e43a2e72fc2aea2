// The public API of this service, and nothing else.

/** What the service answered instead: its status, code and own words. */
export class Problem extends Error {
  constructor(status, members) {
    super(members.detail || `The service answered ${status}.`);
    this.status = status;
    this.code = members.code || "";
    this.title = members.title || "Something went wrong";
    this.errors = members.errors || [];
  }
}

const silence = () =>
  new Problem(0, { title: "No answer", detail: "The service does not answer. Is it still running?" });

/** A path out of parts that may hold anything; the id of an example may have slashes, which stay. */
export function path(...parts) {
  return parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/");
}

/** The status of an answer and what it says. */
export async function ask(method, where, body, signal) {
  const reply = await answered(method, where, body, signal);
  return { status: reply.status, content: reply.status === 204 ? null : await reply.json() };
}

/** The reply, where it is one that was hoped for. */
async function answered(method, where, body, signal) {
  const options = {
    method,
    headers: { Accept: "application/json" },
    credentials: "same-origin",
    cache: "no-store",
    signal,
  };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply;
  try {
    reply = await fetch(where, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw silence();
  }
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
  return reply;
}

export const call = async (...asked) => (await ask(...asked)).content;

export const get = (where, signal) => call("GET", where, undefined, signal);

/** What is no JSON, as text. */
export const text = async (where, signal) => (await answered("GET", where, undefined, signal)).text();

/** PUT a file as it is. `progress` is told the bytes that are sent; only XMLHttpRequest knows them. */
export function upload(where, file, mediaType, { progress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", where);
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", mediaType);
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request.response);
      else reject(new Problem(request.status, request.response || {}));
    });
    request.addEventListener("error", () => reject(silence()));
    request.addEventListener("abort", () => reject(new DOMException("It was cancelled.", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
