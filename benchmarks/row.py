"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What was measured.

    Args:
        what: The subject, with its size.
        ours: Our figure, with its unit.
        other: The figure beside it.
        ratio: Other / ours, so that more is better.
        spread: Smallest and largest ratio of the runs.
        bar: What the row has to reach, in words; empty where it is only shown.
        met: Whether it does.
    """

    what: str
    ours: str
    other: str = ""
    ratio: str = ""
    spread: str = ""
    bar: str = ""
    met: bool = True

    @property
    def verdict(self) -> str:
        """The bar and whether it is met."""
        return f"{self.bar}: {'met' if self.met else 'MISSED'}" if self.bar else "shown"
