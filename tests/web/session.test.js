import assert from "node:assert/strict";

import { personOf } from "../../service/web/lib/session.js";

/** @import { Session } from "../../service/web/types.d.ts" */

Deno.test("the name is that of the key, or else the one that the browser remembers", () => {
  /** @type {Session} */
  const session = { needs_key: true, signed_in: true, name: "kim", role: "reviewer" };
  const shown = (/** @type {Session} */ known, /** @type {string | null} */ remembered) => {
    const { name, fromKey } = personOf(known, remembered);
    return [name, fromKey];
  };
  assert.deepEqual(shown(session, "lee"), ["kim", true]);
  assert.deepEqual(shown({ ...session, name: null }, "lee"), ["lee", false]);
  assert.deepEqual(shown({ ...session, name: null }, ""), [null, false]);
  assert.deepEqual(shown({ ...session, name: null }, null), [null, false]);
});

Deno.test("a reader does not review, and only an owner settles conflicts", () => {
  /** @type {[Session["role"], boolean, boolean][]} */
  const cases = [["reader", false, false], ["reviewer", true, false], ["owner", true, true], [null, false, false]];
  for (const [role, canReview, isOwner] of cases) {
    const person = personOf({ needs_key: true, signed_in: true, name: "kim", role }, null);
    assert.deepEqual([person.canReview, person.isOwner], [canReview, isOwner]);
  }
});
