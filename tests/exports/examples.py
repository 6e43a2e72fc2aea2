"""Rows that are hard to write: unicode, quotes, line ends, empty and long texts, formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from service.exports.rows import ExportOptions, ExportRow

CLASSES = ("cat", "dog", 'größe "<&>', "line\nend")

PLAIN = ExportRow(
    rank=1,
    id="row-17",
    target=0,
    prediction=1,
    suggested=1,
    given_label="cat",
    suggested_label="dog",
    suggested_p=0.93,
    loss=2.31,
    share=0.0042,
    cross_entropy=2.6,
    p_t=0.07,
    log_odds=-2.5,
    logit_margin=-3.1,
    normalized_margin=0.07,
    entropy=0.25,
    el2n=1.3,
    strategy="logit_margin",
    score=-3.1,
    reason="confidently another class",
    attributes={"text": "a barking animal", "group": 3},
    review=None,
    verdict=None,
    verdict_label=None,
    comment=None,
)

ROWS = [
    PLAIN,
    replace(
        PLAIN,
        rank=2,
        id='naïve "id", \u4e2d\u6587 \U0001f408',
        suggested=2,
        suggested_label=CLASSES[2],
        attributes={"text": 'He said: "no",\r\n<b>&amp;</b>\t\u2028', "nested": {"a": [1, None, True]}},
        review="00000000000000000001-0123456789ab.000000",
        verdict="wrong",
        verdict_label="line\nend",
        comment='=1+1, "no";\nlook again',
    ),
    replace(PLAIN, rank=3, id="", suggested=None, suggested_label=None, suggested_p=None, reason="", attributes={}),
    replace(PLAIN, rank=4, id="=1+1", attributes={"text": "x" * 200_000}, reason="@SUM(A1)", verdict="ok"),
    replace(PLAIN, rank=5, id="-5", suggested=3, suggested_label=CLASSES[3], attributes={"text": ""}, verdict="unsure"),
]

INFINITE = replace(
    PLAIN, loss=float("inf"), log_odds=float("-inf"), score=float("nan"), suggested_p=float("nan"), attributes={}
)


def options(total: int = len(ROWS), **changes: Any) -> ExportOptions:
    default = ExportOptions(
        run="r-1.a", queue="q1", config_id="fl_0123", epoch=7, total=total, class_names=CLASSES, from_name="label"
    )
    return replace(default, **changes)


class Supply:
    """Iterable that creates rows on demand and counts them."""

    def __init__(self, total: int, make: Callable[[int], ExportRow] | None = None) -> None:
        self.total = total
        self.created = 0
        self._make = make or (lambda rank: replace(PLAIN, rank=rank, id=f"row-{rank}"))

    def __iter__(self) -> Iterator[ExportRow]:
        for rank in range(1, self.total + 1):
            self.created = rank
            yield self._make(rank)


def whole(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
