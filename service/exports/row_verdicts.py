"""The verdict of an exported row, as people read and change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.runs.review_history import Standing
from service.schema.replies.fields import CurrentVerdict


class RowVerdict(NamedTuple):
    """The verdict on an example or unit.

    Args:
        verdict: The verdict; None before the first review.
        verdict_label: Name of the right class, if it is known.
        comment: The last comment on the verdict.
        review: Id of the last review that the verdict follows from; None without a verdict.
    """

    verdict: CurrentVerdict | None = None
    verdict_label: str | None = None
    comment: str | None = None
    review: str | None = None

    @classmethod
    def of(cls, standing: Standing | None, classes: Sequence[str] | None) -> RowVerdict:
        """The verdict of a standing, with a class by its name."""
        if standing is None:
            return NO_VERDICT
        return cls(standing.verdict, class_text(standing.label, classes), standing.comment, standing.last)


NO_VERDICT = RowVerdict()


def class_text(label: int | None, names: Sequence[str] | None) -> str | None:
    """The name of a class or label, or its number as text; None without one."""
    return None if label is None else str(label) if names is None else names[label]
