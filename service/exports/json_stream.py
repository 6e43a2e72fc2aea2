"""JSON, piece by piece, in blocks that are worth sending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

BLOCK_BYTES = 65_536


def dump(value: Any) -> bytes:
    """A value as JSON; NaN and infinities become null, what JSON does not know becomes its text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)


def lines(values: Iterable[Any]) -> Iterator[bytes]:
    """JSONL: one value a line, nothing where there is none."""
    return blocks(dump(value) + b"\n" for value in values)


def listed(opening: bytes, items: Iterable[bytes], closing: bytes) -> Iterator[bytes]:
    """Items with commas between them, within an opening and a closing, as `[`, `]`."""
    return blocks(_with_commas(opening, items, closing))


def _with_commas(opening: bytes, items: Iterable[bytes], closing: bytes) -> Iterator[bytes]:
    yield opening
    before = b"\n"
    for item in items:
        yield before + item
        before = b",\n"
    yield closing


def blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, gathered until there are `BLOCK_BYTES`."""
    held = bytearray()
    for part in parts:
        held += part
        if len(held) >= BLOCK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
