// The person at the page: the name and the role of the key, or the name that this browser remembers.

import { get } from "./api.js";

/** @import { Person, Session } from "../types.d.ts" */

const NAME = "focal-loss-name", ASKED = "focal-loss-name-asked";
/** @type {Session} The session if the service does not answer: the next request says why. */
const UNKNOWN = { needs_key: false, signed_in: false, name: null, role: "owner" };
/** @type {Promise<Session> | null} */
let known = null;

/**
 * The session of this browser, asked for once.
 *
 * @returns {Promise<Session>}
 */
export const getSession = () => known ??= get("session").catch(() => UNKNOWN);

/** Ask for the session again: the user has signed in or out. */
export function forgetSession() {
  known = null;
}

/** @returns {Promise<Person>} */
export const getPerson = async () => personOf(await getSession(), localStorage.getItem(NAME));

/**
 * @param {Session} session
 * @param {string | null} remembered The name that the browser remembers.
 * @returns {Person}
 */
export function personOf({ name, role }, remembered) {
  return {
    name: name ?? (remembered || null),
    fromKey: name !== null,
    role,
    canReview: role === "reviewer" || role === "owner",
    isOwner: role === "owner",
  };
}

/**
 * The parameter of a request that tells who asks; empty if the key does, or the name is unknown.
 *
 * @param {Person} person
 */
export const callerParameter = ({ name, fromKey }) => fromKey || !name ? "" : `&reviewer=${encodeURIComponent(name)}`;

/**
 * Remember a name; an empty one forgets it.
 *
 * @param {string} name
 */
export function rememberName(name) {
  localStorage.setItem(NAME, name.trim());
  localStorage.setItem(ASKED, "yes");
}

/** True if the page has asked for a name before. */
export const wasAsked = () => localStorage.getItem(ASKED) !== null;
