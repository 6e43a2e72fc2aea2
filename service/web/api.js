// The public API of this service, and nothing else.

/** What the service answered instead: its status, code and own words. */
export class Problem extends Error {
  constructor(status, members) {
    super(members.detail || `The service answered ${status}.`);
    this.status = status;
    this.code = members.code || "";
    this.title = members.title || "Something went wrong";
  }
}

/** A path out of parts that may hold anything; the id of an example may have slashes, which stay. */
export function path(...parts) {
  return parts.map((part) => String(part).split("/").map(encodeURIComponent).join("/")).join("/");
}

export async function call(method, where, body, signal) {
  const reply = await answered(method, where, body, signal);
  return reply.status === 204 ? null : reply.json();
}

/** The reply, where it is one that was hoped for. */
async function answered(method, where, body, signal) {
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store", signal };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply;
  try {
    reply = await fetch(where, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The service does not answer. Is it still running?" });
  }
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
  return reply;
}

export const get = (where, signal) => call("GET", where, undefined, signal);

/** What is no JSON, as text. */
export const text = async (where, signal) => (await answered("GET", where, undefined, signal)).text();
