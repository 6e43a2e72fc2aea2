"""Wrong labels that are left in a data set, from the verdicts on a random sample of it."""

from __future__ import annotations

from dataclasses import dataclass

from service.diagnostics.exact import most_wrong


@dataclass(frozen=True)
class Evidence:
    """Verdicts on a data set of which a part was drawn at random; a judged example has the verdict ok or wrong.

    What was reviewed before the drawing is known and is no part of the sampled population.

    Args:
        population: Number of examples that were not reviewed before the drawing.
        population_judged: Number of them that are judged now.
        population_wrong: Number of them that are judged wrong now.
        sample: Number of judged examples of the sample.
        wrong: Number of wrong ones among them.
        undecided: Number of examples of the sample whose reviews give no verdict of ok or wrong.
        open_before: Number of examples that were reviewed before the drawing and are not judged now.
    """

    population: int
    population_judged: int
    population_wrong: int
    sample: int
    wrong: int
    undecided: int
    open_before: int

    @property
    def num_left(self) -> int:
        """Number of examples that are not judged."""
        return self.population - self.population_judged + self.open_before

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
        unjudged = self.population - self.population_judged
        return min(bound - self.population_wrong, unjudged) + self.open_before

    def estimate(self) -> float | None:
        """Estimated number of wrong labels that are left; None without a judged example in the sample."""
        if not self.sample:
            return None
        share = self.wrong / self.sample
        unjudged = self.population - self.population_judged
        left = share * self.population - self.population_wrong
        return min(max(left, 0.0), float(unjudged)) + share * self.open_before
