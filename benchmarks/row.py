"""A row of the table: the figures, their ratio, and the bar."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measurement.

    Args:
        what: The subject, with its size.
        ours: Our figure, with its unit.
        other: The figure to compare with, with its unit, or why it is missing.
        ratios: The ratio that the bar is for, one value per round: e.g. how many times faster ours is.
        at_least: Minimum of the median ratio; None for no bar.
        at_most: Maximum of the median ratio; None for no bar.
    """

    what: str
    ours: str
    other: str = ""
    ratios: Sequence[float] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """False if the median misses a bar. True without a bar or without a measurement."""
        if not self.ratios:
            return True
        median = statistics.median(self.ratios)
        return (self.at_least is None or median >= self.at_least) and (self.at_most is None or median <= self.at_most)

    @property
    def ratio(self) -> str:
        """Median, smallest and largest ratio as text."""
        if not self.ratios:
            return ""
        median, least, most = statistics.median(self.ratios), min(self.ratios), max(self.ratios)
        return f"{median:.2f}" if len(self.ratios) == 1 else f"{median:.2f} ({least:.2f} - {most:.2f})"

    @property
    def verdict(self) -> str:
        """The bar, and `met` or `MISSED`."""
        if self.at_least is None and self.at_most is None:
            return "shown"
        bar = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        if not self.ratios:
            return f"{bar}: not measured"
        return f"{bar}: {'met' if self.met else 'MISSED'}"

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the table; see `COLUMNS`."""
        return self.what, self.ours, self.other, self.ratio, self.verdict


COLUMNS = ("what", "ours", "other", "ratio (smallest - largest)", "bar")


def timer(
    work: Callable[[], object], calls: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """Call `work` once to warm up, and return a function that measures seconds, as the mean of some calls."""

    def seconds() -> float:
        started = clock()
        for _ in range(calls):
            work()
        return (clock() - started) / calls

    work()
    return seconds


def interleave(measurements: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Run the measurements in the order A B C A B C ..., so that a slow moment of the machine affects all of them."""
    results = [[measure() for measure in measurements] for _ in range(rounds)]
    return [list(column) for column in zip(*results, strict=True)]


def divide(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
