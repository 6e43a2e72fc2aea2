"""Control characters of data, shown as escapes: in paths, ids and names they would be commands to the terminal."""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL and C1, line separators, and the characters that reorder text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Show control characters as `\x1b` or `\u202e`; tabs and line feeds are unchanged."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def visible_json(text: str) -> str:
    r"""Spell the control characters that JSON allows in a text as `\u009b`, which is the same value."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
