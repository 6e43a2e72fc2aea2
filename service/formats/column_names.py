"""The columns of logits, statistics, labels and ids in a table, found by their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from service.formats.part_names import TARGET_NAMES, NamesError, find_name, two_names
from service.schema.request import STATISTIC_PARTS

NUMBERED = re.compile(r"logits?[_.-]?(\d{1,9})")


@dataclass(frozen=True)
class ResolvedColumns:
    """The names of the columns of one file.

    Args:
        logits: One list column, or one column per class, in the order of the classes.
        targets: The column of targets.
        id: The column of ids, or None.
        attributes: Other columns to read.
        statistics: Columns in place of the logits, named as in `service.schema.request.STATISTIC_PARTS`.
    """

    logits: tuple[str, ...]
    targets: str
    id: str | None
    attributes: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return [*self.numbers, self.targets, *([self.id] if self.id else []), *self.attributes]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of logits, or of statistics."""
        return self.logits or self.statistics


def find_columns(names: Sequence[str]) -> ResolvedColumns:
    """Find the columns of logits, labels and ids by their usual names; the others are not among the attributes.

    Raises:
        NamesError: Two columns for one part, or none for the logits or the labels; names the part.
    """
    known = set(names)
    logits, statistics = find_numbers(names)
    return ResolvedColumns(logits, find_targets(known), find_name("ids", known), statistics=statistics)


def find_numbers(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the columns of logits, or else those of statistics.

    Only a table without logits has statistics: in others such a column is an attribute.

    Raises:
        NamesError: See `find_logits`.
    """
    known = set(names)
    if "log_odds" in known and "logits" not in known and not any(map(NUMBERED.fullmatch, names)):
        return (), tuple(name for name in STATISTIC_PARTS if name in known)
    return find_logits(names), ()


def find_targets(names: Collection[str]) -> str:
    """Find the column of labels.

    Raises:
        NamesError: No column has a usual name, or two have.
    """
    name = find_name("targets", names)
    if name is None:
        raise NamesError(f"targets missing: no column is named {', '.join(TARGET_NAMES)}", "targets")
    return name


def find_logits(names: Sequence[str]) -> tuple[str, ...]:
    """Find `logits`, or `logit_0`, `logit_1`, ... in the order of the classes.

    Raises:
        NamesError: Neither is there, or both are, or a number is missing or stands twice.
    """
    numbers: dict[int, str] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        if match:
            other = numbers.setdefault(int(match[1]), name)
            if other != name:
                raise NamesError(f"both {other!r} and {name!r} are names of the logits of class {match[1]}", "logits")
    numbered = tuple(numbers[number] for number in range(len(numbers)) if number in numbers)
    if len(numbered) != len(numbers) or len(numbered) < 2:
        numbered = ()
    if "logits" not in set(names):
        if not numbered:
            raise NamesError("no column 'logits', and no logit_0, logit_1, ... without a gap", "logits")
        return numbered
    if numbered:
        raise two_names("logits", "logits", numbered[0])
    return ("logits",)
