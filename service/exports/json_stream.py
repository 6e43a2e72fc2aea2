"""Streams of JSON, in blocks of a size that is worth sending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

BLOCK_BYTES = 65_536


def dump(value: object) -> bytes:
    """Encode a value as JSON; NaN and infinities become null, and objects of other types their `str`."""
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)


def lines(values: Iterable[object]) -> Iterator[bytes]:
    """Encode values as JSONL, one value per line."""
    return blocks(dump(value) + b"\n" for value in values)


def join_items(opening: bytes, items: Iterable[bytes], closing: bytes) -> Iterator[bytes]:
    """Join encoded items with commas, between an opening and a closing, such as `[` and `]`."""
    return blocks(_with_commas(opening, items, closing))


def _with_commas(opening: bytes, items: Iterable[bytes], closing: bytes) -> Iterator[bytes]:
    yield opening
    separator = b"\n"
    for item in items:
        yield separator + item
        separator = b",\n"
    yield closing


def blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Concatenate the parts into blocks of at least `BLOCK_BYTES`; the last block may be smaller."""
    block = bytearray()
    for part in parts:
        block += part
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
