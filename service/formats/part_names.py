"""The names of logits, labels, ids and statistics: one table for JSON, tensors, columns and inputs of every format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from service.schema.request import STATISTIC_PARTS

LOGITS_NAMES = ("logits",)
TARGET_NAMES = ("targets", "target", "labels", "label", "y")
ID_NAMES = ("ids", "id")
# The first name of each part is the one that the documentation uses.
PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "logits": LOGITS_NAMES,
    "targets": TARGET_NAMES,
    "ids": ID_NAMES,
    **{name: (name,) for name in STATISTIC_PARTS},
}
# Like a part, of ragged examples that are not in lists.
OFFSETS = "offsets"
_STATISTICS = frozenset(STATISTIC_PARTS)
PART_OF: Mapping[str, str] = {name: part for part, names in PART_NAMES.items() for name in names}
TENSOR_PART_OF: Mapping[str, str] = {**PART_OF, OFFSETS: OFFSETS}


class NamesError(ValueError):
    """Two names for the same part.

    Args:
        msg: Describes the error.
        part: A key of PART_NAMES.
    """

    def __init__(self, msg: str, part: str) -> None:
        super().__init__(msg)
        self.msg = msg
        self.part = part


def find_name(part: str, names: Collection[str]) -> str | None:
    """Find the name of a part among the names of members, tensors or columns; None if it is not there.

    Args:
        part: A key of PART_NAMES.
        names: All names; a set or a dict, if there are many.

    Raises:
        NamesError: Two names for the part.
    """
    found = [name for name in PART_NAMES[part] if name in names]
    if len(found) > 1:
        raise two_names(part, found[0], found[1])
    return found[0] if found else None


def required_parts(names: Collection[str]) -> tuple[str, ...]:
    """The parts that a batch needs beside those that it has: logits, unless it has a statistic in their place."""
    return ("logits", "targets") if _STATISTICS.isdisjoint(names) else ("targets",)


def two_names(part: str, first: str, second: str) -> NamesError:
    """The error of two names for a part."""
    return NamesError(f"both {first!r} and {second!r} are names of the {part}: give one of them", part)


def first_duplicate(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, in one pass; None if all are different."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
