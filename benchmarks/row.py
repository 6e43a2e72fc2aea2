"""One line of the table, and what its figures say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What was measured.

    Args:
        what: The subject, with its size.
        ours: Our figure, with its unit.
        other: The figure beside it, with its unit, or why there is none.
        ratios: What the bar is about, one value a round: how many times better ours is, or a share of something.
        at_least: The bar, for the median of the ratios; None where the row is only shown.
        at_most: The same from above.
    """

    what: str
    ours: str
    other: str = ""
    ratios: Sequence[float] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """False only where there is a bar, something was measured, and it is on the wrong side."""
        if not self.ratios:
            return True
        median = statistics.median(self.ratios)
        return (self.at_least is None or median >= self.at_least) and (self.at_most is None or median <= self.at_most)

    @property
    def ratio(self) -> str:
        """Median, smallest and largest."""
        if not self.ratios:
            return ""
        median, least, most = statistics.median(self.ratios), min(self.ratios), max(self.ratios)
        return f"{median:.2f}" if len(self.ratios) == 1 else f"{median:.2f} ({least:.2f} - {most:.2f})"

    @property
    def verdict(self) -> str:
        """The bar and whether it is met."""
        if self.at_least is None and self.at_most is None:
            return "shown"
        bar = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        if not self.ratios:
            return f"{bar}: not measured"
        return f"{bar}: {'met' if self.met else 'MISSED'}"

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table has them; see `COLUMNS`."""
        return self.what, self.ours, self.other, self.ratio, self.verdict


COLUMNS = ("what", "ours", "other", "ratio (smallest - largest)", "bar")


def in_turn(works: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """What each work gives, A B C A B C ..., so that a slow moment of the machine meets all of them."""
    results = [[work() for work in works] for _ in range(rounds)]
    return [list(column) for column in zip(*results, strict=True)]


def over(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratio in each round."""
    return [one / other for one, other in zip(numerators, denominators, strict=True)]
