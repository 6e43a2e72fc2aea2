"""Wrong labels that are left in a data set, from the verdicts on a random sample of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.chunks import Booleans
from service.diagnostics.exact import most_wrong

# The most suspicious examples are set apart until OPEN_IN_WINDOW of the last WINDOW ones are not judged.
WINDOW, OPEN_IN_WINDOW = 20, 5


def num_set_apart(judged: Booleans) -> int:
    """The number of most suspicious examples to set apart from the sampled population, since most are judged.

    They are counted from the most suspicious one, until too many are not judged. Nothing is asked about the examples
    after the last one, so the random sample without the examples that are set apart is one of the remaining examples.

    Args:
        judged: (n,) True for judged examples, most suspicious first.
    """
    num_open = np.cumsum(~judged)
    in_window = num_open - np.concatenate([np.zeros(WINDOW, dtype=np.int64), num_open])[: len(judged)]
    too_many = np.flatnonzero(in_window >= OPEN_IN_WINDOW)
    return int(too_many[0]) + 1 if len(too_many) else len(judged)


@dataclass(frozen=True)
class Evidence:
    """Verdicts on a data set of which a part was drawn at random; a judged example has the verdict ok or wrong.

    Some examples are set apart from the sampled population: those that were reviewed before the drawing, and the most
    suspicious ones if most of them are judged. Otherwise many wrong labels that are found already would be in the
    sample, and hide how few are left.

    Args:
        apart: Number of examples that are set apart.
        apart_judged: Number of them that are judged.
        apart_wrong: Number of them that are judged wrong.
        population: Number of the other examples.
        population_judged: Number of them that are judged.
        population_wrong: Number of them that are judged wrong.
        sample: Number of judged examples of the sample, all of the population.
        wrong: Number of wrong ones among them.
        undecided: Number of examples of the sample whose reviews give no verdict of ok or wrong.
        open_share: Share of wrong labels among the examples that are set apart and not judged, as an estimate.
    """

    apart: int
    apart_judged: int
    apart_wrong: int
    population: int
    population_judged: int
    population_wrong: int
    sample: int
    wrong: int
    undecided: int
    open_share: float

    @property
    def apart_open(self) -> int:
        """Number of examples that are set apart and not judged; each may be wrong."""
        return self.apart - self.apart_judged

    @property
    def population_open(self) -> int:
        """Number of examples of the population that are not judged."""
        return self.population - self.population_judged

    @property
    def num_left(self) -> int:
        """Number of examples that are not judged."""
        return self.population_open + self.apart_open

    def upper(self) -> int | None:
        """Upper 95 % bound of the wrong labels that are left; None without a judged example in the sample.

        Undecided examples count as if they had not been drawn. It is true for at least 95 % of all samples, however
        the other reviewed examples were chosen, as long as reviewers decide about wrong and right labels alike.
        """
        return self._upper(0) if self.sample else None

    def upper_if_undecided_wrong(self) -> int | None:
        """The bound if the labels of all undecided examples of the sample are wrong."""
        return self._upper(self.undecided) if self.sample + self.undecided else None

    def _upper(self, further: int) -> int:
        sample, wrong = self.sample + further, self.wrong + further
        bound = most_wrong(self.population, sample, wrong, self.population_wrong)
        return min(bound - self.population_wrong, self.population_open) + self.apart_open

    def estimate(self) -> float | None:
        """Estimated number of wrong labels that are left; None without a judged example in the sample."""
        if not self.sample:
            return None
        left = self.wrong / self.sample * self.population - self.population_wrong
        return min(max(left, 0.0), float(self.population_open)) + self.open_share * self.apart_open
