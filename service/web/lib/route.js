// Every view has an address after the `#`, so that it can be kept and sent: `#/runs/x/queues/y/17?given=2`.

/** The parts of an address and its query. */
export function here() {
  const [where, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: where.split("/").filter(Boolean).map(safelyDecoded), query: new URLSearchParams(query) };
}

function safelyDecoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view; parts may hold anything, nulls in the query are left out. */
export function address(parts, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const toRuns = () => "#/";
export const toRun = (run) => address(["runs", run]);
export const toQueue = (run, queue, rank, query) =>
  address(["runs", run, "queues", queue, ...(rank ? [rank] : [])], query);
export const toExamples = (run, query) => address(["runs", run, "examples"], query);
export const toExample = (run, id, query) => address(["runs", run, "examples", id], query);
