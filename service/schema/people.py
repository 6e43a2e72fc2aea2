"""People who use the service: the name and the role of a key."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

# Characters of the name of a reviewer.
MAX_REVIEWER_NAME = 200
# From the least rights to all: a reader changes nothing, a reviewer adds reviews and takes rows to review.
Role = Literal["reader", "reviewer", "owner"]
ROLES: tuple[Role, ...] = get_args(Role)


class Principal(NamedTuple):
    """The caller of a request.

    Args:
        name: Name of the key; None if it has none, or the service has no keys.
        role: Role of the key; without keys everyone is an owner.
    """

    name: str | None
    role: Role

    def has(self, least: Role) -> bool:
        """True if the caller has a role, or one with more rights."""
        return ROLES.index(self.role) >= ROLES.index(least)


# The caller of a service without keys, and of one with keys on paths that are open to all.
ANYONE, NOBODY = Principal(None, "owner"), Principal(None, "reader")
