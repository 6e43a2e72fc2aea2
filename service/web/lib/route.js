// Addresses of views. They stand after the `#`, so that a view can be bookmarked: `#/runs/x/queues/y/17?given=2`.

/**
 * The parts and the query of an address.
 *
 * @returns {{ parts: string[], query: URLSearchParams }}
 */
export function parseAddress(hash = location.hash) {
  const [where, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { parts: where.split("/").filter(Boolean).map(safelyDecoded), query: new URLSearchParams(query) };
}

/** @param {string} part */
function safelyDecoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * The address of a view. Parts may contain any characters; empty and null values of the query are left out.
 *
 * @param {(string | number)[]} parts
 * @param {Record<string, any>} query
 */
export function address(parts, query = {}) {
  const used = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(used).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** @param {string} run */
export const toRun = (run) => address(["runs", run]);

/**
 * @param {string} run
 * @param {string} queue
 * @param {number | string | null} [rank]
 * @param {Record<string, any>} [query]
 */
export const toQueue = (run, queue, rank, query) =>
  address(["runs", run, "queues", queue, ...(rank ? [rank] : [])], query);

/**
 * @param {string} run
 * @param {Record<string, any>} query
 */
export const toExamples = (run, query) => address(["runs", run, "examples"], query);

/**
 * @param {string} run
 * @param {string} id
 * @param {Record<string, any>} [query]
 */
export const toExample = (run, id, query) => address(["runs", run, "examples", id], query);
