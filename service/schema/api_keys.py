"""API keys: the text of the settings, with the name and the role of those who use a key."""

from __future__ import annotations

import re
from typing import NamedTuple

from service.schema.people import ROLES, Principal

SHORTEST_KEY, FEWEST_CHARACTERS = 16, 6
PERSON = re.compile(r"[A-Za-z0-9._@+-]{1,100}")


class ApiKey(NamedTuple):
    """A key with the name and the role of those who use it.

    Args:
        secret: The key as clients send it.
        principal: Name, if it has one, and role.
    """

    secret: str
    principal: Principal

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """Parse `key`, `name:key` or `name:role:key`; the default role is owner.

        Raises:
            ValueError: The text has more colons, or a part is not valid; the message has no part of it.
        """
        *person, secret = text.split(":")
        if len(person) > 2:
            raise ValueError("has more than two colons; write key, name:key or name:role:key")
        if fault := _fault_of_key(secret):
            raise ValueError(fault)
        name = person[0] if person else None
        if name is not None and not PERSON.fullmatch(name):
            raise ValueError("has a name that is not 1 to 100 of the characters A-Z a-z 0-9 . _ @ + -")
        role = person[1] if len(person) == 2 else "owner"
        if role not in ROLES:
            raise ValueError(f"has another role than {', '.join(ROLES)}")
        return cls(secret, Principal(name, role))


def _fault_of_key(key: str) -> str:
    """The reason why a text is no safe key, or an empty text."""
    if len(key) < SHORTEST_KEY:
        return f"has fewer than {SHORTEST_KEY} characters"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"has fewer than {FEWEST_CHARACTERS} different characters"
    # Clients send other characters in different encodings, or not at all.
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "has a space, or a character that is not printable ASCII"
    return ""
