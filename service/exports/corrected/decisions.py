"""Decisions on labels that follow from the reviews of an example."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from service.runs.review_history import Standing, Verdicts
from service.runs.units import WHOLE
from service.schema.replies.corrected import CorrectedStatus
from service.schema.replies.reviews import Review

# Decisions on whole examples; `decided` and `right_label` are those of a `Decision`.
DECISIONS = pa.schema(
    {
        "id": pa.string(),
        "decided": pa.string(),
        "right_label": pa.int32(),
        "reviewers": pa.list_(pa.string()),
        "comment": pa.string(),
    }
)


class Decision(NamedTuple):
    """The status of a reviewed label, and the right class.

    Args:
        status: `kept`, `corrected`, `excluded`, `unsure` or `conflict`.
        label: The right class of status `corrected`; else None.
    """

    status: CorrectedStatus
    label: int | None = None


def decide(standing: Standing) -> Decision:
    """The decision that follows from the reviews that count.

    A wrong label without a right class is `unsure`: the given label must not be used, and no other one is known.
    """
    if standing.verdict == "ok":
        return Decision("kept")
    if standing.verdict == "exclude":
        return Decision("excluded")
    if standing.verdict == "conflict":
        return Decision("conflict")
    if standing.verdict == "unsure" or standing.label is None:
        return Decision("unsure")
    return Decision("corrected", standing.label)


def all_reviews(standing: Standing) -> list[Review]:
    """The last review of each reviewer, and the adjudication after them."""
    return [*standing.reviews, *([] if standing.adjudicated is None else [standing.adjudicated])]


def reviewers_of(reviews: Iterable[Review]) -> list[str]:
    """The names of the reviewers, each once, in the order of their reviews."""
    return list(dict.fromkeys(review["reviewer"] for review in reviews if review["reviewer"] is not None))


def comments_of(reviews: Iterable[Review]) -> str | None:
    """The comments, each once, on lines of their own; None without one."""
    return "\n".join(dict.fromkeys(review["comment"] for review in reviews if review["comment"])) or None


def reviewed_decisions(verdicts: Verdicts) -> pa.Table:
    """The decisions that follow from the reviews of whole examples, with the columns of DECISIONS."""
    rows = {key.id: standing for key, standing in verdicts.items() if key.unit == WHOLE}
    decided = list(map(decide, rows.values()))
    reviews = list(map(all_reviews, rows.values()))
    columns = (
        rows,
        [decision.status for decision in decided],
        [decision.label for decision in decided],
        map(reviewers_of, reviews),
        map(comments_of, reviews),
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, DECISIONS, strict=True)]
    return pa.table(arrays, schema=DECISIONS)
