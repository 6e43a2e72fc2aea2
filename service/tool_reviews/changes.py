"""The reviews to add so that a run agrees with the annotations of labelling tools.

An annotation has the time of its last change. A state that is not newer than the stored one, as its event was delivered
twice or late, adds nothing. If a person has several annotations of one example, the last one with a verdict counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from service.runs.review_history import ReviewHistory
from service.runs.units import UnitKey
from service.schema.replies.reviews import ReviewSource, StoredReview
from service.tool_reviews.annotation import DeletedAnnotation, utc_text


class Place(NamedTuple):
    """A reviewer, and the example or unit of a review."""

    reviewer: str | None
    key: UnitKey

    @classmethod
    def of(cls, review: StoredReview) -> Place:
        return cls(review["reviewer"], UnitKey.of(review))


# Tool and id of an annotation.
SourceKey = tuple[str, str]


class AnnotationChanges:
    """Collects the reviews that annotations add to a history.

    Args:
        history: The reviews of the run.
    """

    def __init__(self, history: ReviewHistory) -> None:
        self._history = history
        # The new states of annotations, and the annotations by the place of their new reviews.
        self._states: dict[SourceKey, Sequence[StoredReview]] = {}
        self._places: defaultdict[Place, list[SourceKey]] = defaultdict(list)
        self._added: list[StoredReview] = []
        # The last added review of each place, and the places where another annotation's verdict may count.
        self._current: dict[Place, StoredReview] = {}
        self._disputed: dict[Place, None] = {}

    @property
    def reviews(self) -> list[StoredReview]:
        """The reviews to add."""
        counting = (self._last_verdict(place) for place in self._disputed)
        return [
            *self._added,
            *(_stored(last) for last in counting if last is not None and last is not self._current[Place.of(last)]),
        ]

    @property
    def num_annotations(self) -> int:
        """Number of annotations with a new state."""
        return len(self._states)

    def write(self, source: ReviewSource, reviews: Sequence[StoredReview]) -> None:
        """Record a state of an annotation.

        Args:
            source: The annotation and the time.
            reviews: Its reviews; one without a verdict withdraws an earlier one.
        """
        known = self._state((source["tool"], source["id"]))
        if known and known[-1]["source"]["updated_at"] >= source["updated_at"]:
            return
        places = {Place.of(review) for review in reviews}
        self._record(source, [*reviews, *(_withdrawn(old, source) for old in known if Place.of(old) not in places)])

    def delete(self, deleted: DeletedAnnotation) -> None:
        """Withdraw the reviews of an annotation; nothing happens if the run has none."""
        for identity in self._ids_of(deleted):
            known = self._state((deleted.tool, identity))
            if any(review["verdict"] is not None for review in known):
                last = known[-1]["source"]
                # Later than the last state, whatever the clocks of the tool and of the service say.
                later = datetime.fromisoformat(last["updated_at"]) + timedelta(microseconds=1)
                source: ReviewSource = {**last, "updated_at": utc_text(max(later, datetime.now(UTC)))}
                self._record(source, [_withdrawn(review, source) for review in known])

    def _state(self, key: SourceKey) -> Sequence[StoredReview]:
        """The reviews of the last state of an annotation."""
        return self._states[key] if key in self._states else self._history.by_source(*key)

    def _ids_of(self, deleted: DeletedAnnotation) -> Iterable[str]:
        if deleted.id is not None:
            return [deleted.id]
        # Two installations of a tool may have projects and annotations of the same numbers: then it is not known which.
        ids = self._numbered[deleted.tool, deleted.project, deleted.annotation]
        return ids if len(ids) == 1 else ()

    def _record(self, source: ReviewSource, reviews: Sequence[StoredReview]) -> None:
        key = source["tool"], source["id"]
        self._states[key] = reviews
        for review in reviews:
            place = Place.of(review)
            # A withdrawal is of this annotation only, and a late state does not replace that of another annotation.
            if review["verdict"] is None or self._is_late(place, source):
                self._disputed[place] = None
            self._places[place].append(key)
            self._current[place] = review
        self._added += reviews

    def _is_late(self, place: Place, source: ReviewSource) -> bool:
        """True if the verdict at a place follows from an annotation that was changed later."""
        current: StoredReview | None = self._current.get(place)
        if current is None and (standing := self._history.verdicts.get(place.key)) is not None:
            current = standing.of_reviewer(place.reviewer)
        return current is not None and "source" in current and current["source"]["updated_at"] > source["updated_at"]

    def _last_verdict(self, place: Place) -> StoredReview | None:
        """The last review with a verdict that an annotation has at a place."""
        found = [
            review
            for key in {*self._annotations[place], *self._places[place]}
            for review in self._state(key)
            if review["verdict"] is not None and Place.of(review) == place
        ]
        return max(found, key=lambda review: review["source"]["updated_at"], default=None)

    @cached_property
    def _annotations(self) -> defaultdict[Place, list[SourceKey]]:
        """The annotations of the history by the place of their reviews."""
        result = defaultdict[Place, list[SourceKey]](list)
        for key, reviews in self._history.sources.items():
            for review in reviews:
                result[Place.of(review)].append(key)
        return result

    @cached_property
    def _numbered(self) -> defaultdict[tuple[str, int | None, int | None], list[str]]:
        """The ids of the annotations of the history by tool, and by the numbers of project and annotation."""
        result = defaultdict[tuple[str, int | None, int | None], list[str]](list)
        for (tool, identity), reviews in self._history.sources.items():
            source = reviews[-1]["source"]
            result[tool, source.get("project"), source.get("annotation")].append(identity)
        return result


def _withdrawn(review: StoredReview, source: ReviewSource) -> StoredReview:
    """The review that withdraws a review of an annotation."""
    now = datetime.now(UTC).isoformat()
    return {**_stored(review), "verdict": None, "label": None, "comment": None, "at": now, "source": source}


def _stored(review: StoredReview) -> StoredReview:
    """A review without its id, to be stored again."""
    copy = review.copy()
    copy.pop("review", None)  # type: ignore[typeddict-item]
    return copy
