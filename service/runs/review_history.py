"""The reviews of a run in memory: those that count for each example and unit, and the verdict that follows."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import compress
from operator import not_

from immutables import Map

from service.errors import InvalidRequestError
from service.runs.units import UnitKey
from service.schema.faults import fault
from service.schema.replies.fields import CurrentVerdict
from service.schema.replies.reviews import Review, StoredReview

# Largest number of reviewers with a verdict on one example or unit.
MAX_REVIEWERS = 500
# Reviews that are removed from a history in the time in which one is added.
REMOVED_IN_THE_TIME_OF_ONE = 0.25


@dataclass(frozen=True, slots=True)
class Standing:
    """The reviews that count for an example or unit, and the verdict that follows from them.

    One reviewer's verdict never hides another's. The verdict is that of the adjudication, if there is one; else the
    common one: all verdicts are equal, and so are all labels that are given; else `conflict`.

    Args:
        reviews: The last review of each reviewer that has not withdrawn his verdict, in the order of arrival. The
            reviews without a reviewer are those of one person.
        adjudicated: The review that settles what they disagree about.
        verdict: The verdict that follows.
        label: The right class that follows, if it is known.
        last: Id of the last review of all, also of one that withdraws a verdict.
    """

    reviews: tuple[Review, ...]
    adjudicated: Review | None
    verdict: CurrentVerdict
    label: int | None
    last: str

    @classmethod
    def of(cls, reviews: tuple[Review, ...], adjudicated: Review | None, last: str) -> Standing | None:
        """The standing of the reviews that count; None if there are none."""
        if adjudicated is not None:
            return cls(reviews, adjudicated, _verdict(adjudicated), adjudicated["label"], last)
        if not reviews:
            return None
        verdicts = {_verdict(review) for review in reviews}
        labels = {label for review in reviews if (label := review["label"]) is not None}
        if len(verdicts) > 1 or len(labels) > 1:
            return cls(reviews, None, "conflict", None, last)
        return cls(reviews, None, verdicts.pop(), labels.pop() if labels else None, last)

    @property
    def epoch(self) -> int | None:
        """The epoch of a region of a mask; None for others."""
        return self.counting[0].get("epoch")

    @property
    def counting(self) -> Sequence[Review]:
        """The reviews that the verdict follows from."""
        return self.reviews if self.adjudicated is None else (self.adjudicated,)

    @property
    def comment(self) -> str | None:
        """The last comment on the verdict."""
        return next((review["comment"] for review in reversed(self.counting) if review["comment"]), None)

    def of_reviewer(self, reviewer: str | None) -> Review | None:
        """The review of a reviewer that counts; None if he has no verdict."""
        return next((review for review in self.reviews if review["reviewer"] == reviewer), None)


# An example or unit, and the epoch of a region of a mask; None for others.
Place = tuple[UnitKey, int | None]
# The standing of each example and unit with a verdict.
Verdicts = Mapping[UnitKey, Standing]


def _verdict(review: Review) -> CurrentVerdict:
    verdict = review["verdict"]
    if verdict is None:
        raise ValueError("a review without a verdict does not count")
    return verdict


@dataclass(frozen=True)
class ReviewHistory:
    """All reviews of a run at one moment.

    It never changes: further reviews make another one, which shares what is the same.

    Args:
        log: The first `size` reviews are those of this history, in the order of arrival. Later histories append to it.
        size: Number of reviews.
        last: Name of the last list of reviews (`service.runs.review_files`); empty without reviews.
        num_lists: Number of lists.
        standings: The standings of the regions of each epoch, and at None those of examples and of other units.
        last_reviews: The last review of each example and unit by anyone, by epoch too.
        sources: The last reviews that follow from an annotation of a labelling tool, by tool and id.
        counts: Number of standings with each verdict.
    """

    log: list[Review]
    size: int = 0
    last: str = ""
    num_lists: int = 0
    standings: Map[int | None, Map[UnitKey, Standing]] = field(default_factory=lambda: Map({None: Map()}))
    last_reviews: Map[int | None, Map[UnitKey, Review]] = field(default_factory=Map)
    sources: Map[tuple[str, str], tuple[Review, ...]] = field(default_factory=Map)
    counts: Mapping[CurrentVerdict, int] = field(default_factory=Counter)

    @property
    def reviews(self) -> list[Review]:
        """All reviews in the order of arrival."""
        return self.log[: self.size]

    @property
    def counting(self) -> list[Review]:
        """The reviews that count, in the order of arrival."""
        reviews = [
            review for standing in self.current for review in (*standing.reviews, standing.adjudicated) if review
        ]
        return sorted(reviews, key=_arrival)

    def since(self, size: int) -> list[Review]:
        """The reviews after the first `size`."""
        return self.log[size : self.size]

    @property
    def verdicts(self) -> Verdicts:
        """The standings of examples and units.

        Of the regions of a mask with the same number in several epochs it has those of the last epoch: see
        `verdicts_of`.
        """
        epochs = sorted((epoch for epoch in self.standings if epoch is not None), reverse=True)
        return _chained([*(self.standings[epoch] for epoch in epochs), self.standings[None]])

    def verdicts_of(self, epoch: int) -> Verdicts:
        """The standings of examples, and of units of an epoch.

        The regions of a mask follow from the predictions of an epoch: each epoch has its own.
        """
        regions = self.standings.get(epoch)
        return self.standings[None] if regions is None else _chained([regions, self.standings[None]])

    @property
    def current(self) -> list[Standing]:
        """The standings of examples and of the units of all epochs."""
        return [standing for of_epoch in self.standings.values() for standing in of_epoch.values()]

    def last_review(self, key: UnitKey, epoch: int | None = None) -> Review | None:
        """The last review of an example or unit by anyone, which may withdraw a verdict; None if there is none.

        Args:
            key: The example or unit.
            epoch: The epoch of a region of a mask; None for others.
        """
        return self.last_reviews.get(epoch, Map()).get(key)

    def standing(self, key: UnitKey, epoch: int | None = None) -> Standing | None:
        """The standing of an example or unit; None without a verdict. Arguments as of `last_review`."""
        return self.standings.get(epoch, Map()).get(key)

    def standings_after(self, last: Mapping[Place, str]) -> dict[Place, Standing]:
        """The standings of examples and units at the time when a given review of each was its last one.

        Args:
            last: The id of the review. The result lacks those whose id is not of such a review, and those that had no
                verdict then.
        """
        now = {place: standing for place in last if (standing := self.standing(*place)) is not None}
        found = {place: standing for place, standing in now.items() if standing.last == last[place]}
        earlier = {place: identity for place, identity in last.items() if place not in found}
        standings = dict[Place, Standing | None]()
        for review in self.reviews if earlier else ():
            place = place_of(review)
            if place in earlier:
                standings[place] = _reviewed(standings.get(place), review)
                if review["review"] == earlier[place] and (standing := standings[place]) is not None:
                    found[place] = standing
        return found

    def by_source(self, tool: str, identity: str) -> tuple[Review, ...]:
        """The reviews that follow from the last state of an annotation; empty if none does."""
        return self.sources.get((tool, identity), ())

    def without(self, hidden: Sequence[bool]) -> ReviewHistory:
        """The history without some of its reviews: of each example and unit all of them, or none.

        Args:
            hidden: For each review True if it is left out.
        """
        visible = list(compress(self.log, map(not_, hidden)))
        # A name of its own: what is cached for all reviews is not for these.
        last = f"{self.last}-without-{blake2b(bytes(hidden), digest_size=16).hexdigest()}"
        if len(visible) < (self.size - len(visible)) * REMOVED_IN_THE_TIME_OF_ONE:
            return ReviewHistory([]).extended([(last, visible)])
        standings = {epoch: of_epoch.mutate() for epoch, of_epoch in self.standings.items()}
        last_reviews = {epoch: of_epoch.mutate() for epoch, of_epoch in self.last_reviews.items()}
        counts = Counter(self.counts)
        for review in compress(self.log, hidden):
            key, epoch = place_of(review)
            standing = standings[epoch].pop(key, None)
            if standing is not None:
                counts[standing.verdict] -= 1
            last_reviews[epoch].pop(key, None)
        return replace(
            self,
            log=visible,
            size=len(visible),
            last=last,
            standings=Map({epoch: of_epoch.finish() for epoch, of_epoch in standings.items()}),
            last_reviews=Map({epoch: of_epoch.finish() for epoch, of_epoch in last_reviews.items()}),
            counts=counts,
        )

    def extended(
        self, lists: Iterable[tuple[str, Sequence[Review]]], *, max_reviewers: int | None = None
    ) -> ReviewHistory:
        """The history with further lists of reviews, in the order of their names.

        Only the newest history may be extended.

        Args:
            lists: The name and the reviews of each list.
            max_reviewers: Largest number of reviewers of an example or unit; None for any.

        Raises:
            InvalidRequestError: An example or unit has more reviewers; the error names the review.
        """
        standings = {epoch: of_epoch.mutate() for epoch, of_epoch in self.standings.items()}
        last_reviews = {epoch: of_epoch.mutate() for epoch, of_epoch in self.last_reviews.items()}
        sources, counts = self.sources.mutate(), Counter(self.counts)
        added: list[Review] = []
        last, num_lists = self.last, self.num_lists
        for name, reviews in lists:
            last, num_lists = name, num_lists + 1
            for number, review in enumerate(reviews):
                key, epoch = UnitKey.of(review), review.get("epoch")
                of_epoch = standings.setdefault(epoch, Map().mutate())
                before = of_epoch.get(key)
                standing = _reviewed(before, review)
                if before is not None:
                    counts[before.verdict] -= 1
                if standing is not None:
                    counts[standing.verdict] += 1
                    if max_reviewers is not None and len(standing.reviews) > max_reviewers:
                        msg = f"the example has {max_reviewers} reviewers; no more are allowed"
                        raise fault(InvalidRequestError, msg, number, "reviewer")
                    of_epoch[key] = standing
                else:
                    of_epoch.pop(key, None)
                last_reviews.setdefault(epoch, Map().mutate())[key] = review
                if (source := review.get("source")) is not None:
                    place = (source["tool"], source["id"])
                    sources[place] = _of_annotation(sources.get(place, ()), review, source["updated_at"])
            added += reviews
        return replace(
            self,
            log=_appended(self.log, self.size, added),
            size=self.size + len(added),
            last=last,
            num_lists=num_lists,
            standings=Map({epoch: of_epoch.finish() for epoch, of_epoch in standings.items()}),
            last_reviews=Map({epoch: of_epoch.finish() for epoch, of_epoch in last_reviews.items()}),
            sources=sources.finish(),
            counts=counts,
        )


def place_of(review: StoredReview) -> Place:
    """The example or unit of a review."""
    return UnitKey.of(review), review.get("epoch")


def _arrival(review: Review) -> tuple[str, int]:
    """The list of a review, and its number there."""
    name, _, number = review["review"].rpartition(".")
    return name, int(number)


def _chained(parts: Sequence[Map[UnitKey, Standing]]) -> Verdicts:
    # ChainMap is typed for mutable mappings, and reads others as well.
    return parts[0] if len(parts) == 1 else ChainMap(*parts)  # type: ignore[arg-type]


def _reviewed(standing: Standing | None, review: Review) -> Standing | None:
    """The standing after a further review."""
    reviews, adjudicated = ((), None) if standing is None else (standing.reviews, standing.adjudicated)
    counts = review["verdict"] is not None
    if review.get("adjudicated"):
        return Standing.of(reviews, review if counts else None, review["review"])
    others = tuple(other for other in reviews if other["reviewer"] != review["reviewer"])
    return Standing.of((*others, review) if counts else others, adjudicated, review["review"])


def _of_annotation(known: tuple[Review, ...], review: Review, updated_at: str) -> tuple[Review, ...]:
    """The reviews of the last state of an annotation; each state has a time, and may have reviews of several units."""
    is_same = bool(known) and known[-1].get("source", {}).get("updated_at") == updated_at
    return (*known, review) if is_same else (review,)


def _appended(log: list[Review], size: int, added: Sequence[Review]) -> list[Review]:
    """A log with further reviews: the same list if it has exactly the first `size` reviews, else a copy."""
    if len(log) != size:
        log = log[:size]
    log.extend(added)
    return log
