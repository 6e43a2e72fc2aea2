"""JSONL with other labels: all other members keep their text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from service.cli.relabel.rows import ColumnOptions, Columns, Relabeller
from service.formats.columns import ColumnError

_DECODER = json.JSONDecoder()
_SPACES = re.compile(r"[ \t\r\n]*")


class Member(NamedTuple):
    """The value of a member of an object, and its place in the text."""

    value: Any
    start: int
    stop: int


def relabel_jsonl(file: BinaryIO, out: BinaryIO, options: ColumnOptions, relabeller: Relabeller) -> None:
    """Copy a JSONL file with the labels to use and the added members; the names are those of the first object.

    Raises:
        ColumnError: A line is no JSON object, or a row is invalid.
        UsageError: The members are not found.
    """
    columns: Columns | None = None
    number = 0
    for line in file:
        start = codecs.BOM_UTF8 if not number and line.startswith(codecs.BOM_UTF8) else b""
        text = _decoded(line.removeprefix(start), number)
        if not text.strip():
            out.write(line)
            continue
        members = _members(text, number)
        if columns is None:
            columns = options.find(list(members))
            relabeller.column = columns.label
        out.write(start + _relabelled(text, members, number, columns, relabeller).encode())
        number += 1


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as err:
        raise ColumnError(f"not UTF-8: {err}", number, None) from err


def _members(text: str, number: int) -> dict[str, Member]:
    """The members of the object in a line; of equal names the last one counts, as in Python."""
    try:
        members = dict(_read_members(text))
    except (ValueError, IndexError, RecursionError) as err:
        raise ColumnError(f"not a JSON object: {err}", number, None) from err
    return members


def _read_members(text: str) -> Iterator[tuple[str, Member]]:
    place = _after("{", text, _spaces(text, 0))
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        start = _after(":", text, _spaces(text, place))
        value, stop = _DECODER.raw_decode(text, start)
        yield str(name), Member(value, start, stop)
        place = _spaces(text, stop)
        if text[place] != "}":
            place = _after(",", text, place)
    if text[place + 1 :].strip():
        raise ValueError("a line has one object")


def _spaces(text: str, place: int) -> int:
    """The place after white space."""
    match = _SPACES.match(text, place)
    return match.end() if match else place


def _after(character: str, text: str, place: int) -> int:
    """The place after a character and white space."""
    if text[place] != character:
        raise ValueError(f"expected {character} at character {place}")
    return _spaces(text, place + 1)


def _relabelled(text: str, members: dict[str, Member], number: int, columns: Columns, relabeller: Relabeller) -> str:
    label = members.get(columns.label)
    identity = number if columns.id is None else members[columns.id].value if columns.id in members else None
    value = None if label is None else label.value
    new, status, reviewers = relabeller.relabel(number, identity, value)
    given = "null" if label is None else text[label.start : label.stop]
    if label is not None and new != value:
        text = text[: label.start] + json.dumps(new, ensure_ascii=False) + text[label.stop :]
    end = text.rindex("}")
    texts = (given, json.dumps(status), json.dumps(reviewers, ensure_ascii=False))
    added = ", ".join(f"{json.dumps(name)}: {value}" for name, value in zip(columns.added, texts, strict=True))
    return f"{text[:end]}{', ' if members else ''}{added}{text[end:]}"
