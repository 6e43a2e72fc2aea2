"""Annotations in any order, and delivered several times, leave the same verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from service.runs.review_history import ReviewHistory
from service.runs.units import UnitKey
from service.schema.replies.reviews import Review, ReviewSource, StoredReview
from service.tool_reviews.annotation import DeletedAnnotation
from service.tool_reviews.changes import AnnotationChanges

# Number of the annotation, time of its change, and the class that was chosen; None for no choice.
State = tuple[int, int, int | None]
STATES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 59), st.none() | st.integers(0, 2)),
    max_size=8,
    unique_by=lambda state: state[1],
)


def source_of(number: int, second: int) -> ReviewSource:
    return {
        "tool": "label-studio",
        "id": f"uuid-{number}",
        "updated_at": f"2026-11-30T00:00:{second:02}.000000+00:00",
        "project": 1,
        "annotation": number,
    }


def review_of(state: State) -> StoredReview:
    number, second, label = state
    return {
        "id": "a",
        "verdict": None if label is None else "wrong",
        "label": label,
        # The first two annotations are of one person.
        "reviewer": "label-studio:1" if number < 3 else "label-studio:2",
        "queue": None,
        "comment": None,
        "at": "2026-11-30T00:00:00+00:00",
        "source": source_of(number, second),
    }


def after(history: ReviewHistory, states: Sequence[State], deleted: Sequence[int] = ()) -> ReviewHistory:
    """The history after a request with these states of annotations, and these deletions."""
    changes = AnnotationChanges(history)
    for state in states:
        changes.write(source_of(state[0], state[1]), [review_of(state)])
    for number in deleted:
        changes.delete(DeletedAnnotation("label-studio", project=1, annotation=number))
    name = f"{history.num_lists + 1:020}-x"
    reviews = [Review(**review, review=f"{name}-{n}") for n, review in enumerate(changes.reviews)]
    return history.extended([(name, reviews)]) if reviews else history


def verdicts(history: ReviewHistory) -> dict[str | None, int | None]:
    """The class that each reviewer says is right."""
    standing = history.verdicts.get(UnitKey("a"))
    return {} if standing is None else {review["reviewer"]: review["label"] for review in standing.reviews}


def expected(states: Sequence[State]) -> dict[str | None, int | None]:
    """The class of the last annotation of each person that has one in its last state."""
    last = {number: (second, label) for number, second, label in sorted(states, key=lambda state: state[1])}
    result: dict[str | None, int | None] = {}
    for number, (_, label) in sorted(last.items(), key=lambda item: item[1][0]):
        if label is not None:
            result[review_of((number, 0, 0))["reviewer"]] = label
    return result


@given(STATES, st.data())
def test_the_last_state_of_each_annotation_counts_in_any_order(states: list[State], data: st.DataObject) -> None:
    delivered = data.draw(st.permutations([*states, *data.draw(st.lists(st.sampled_from(states or [(1, 0, 0)])))]))
    if not states:
        delivered = []
    one_by_one, at_once = ReviewHistory([]), after(ReviewHistory([]), delivered)
    for state in delivered:
        one_by_one = after(one_by_one, [state])
    assert verdicts(one_by_one) == verdicts(at_once) == expected(states)
    assert after(one_by_one, delivered) is one_by_one


@given(STATES, st.sets(st.integers(1, 4)))
def test_deleted_annotations_do_not_count(states: list[State], deleted: set[int]) -> None:
    ordered = sorted(states, key=lambda state: state[1])
    history = ReviewHistory([])
    for state in ordered:
        history = after(history, [state])
    history = after(history, [], sorted(deleted))
    assert verdicts(history) == expected([state for state in states if state[0] not in deleted])
    # Deliveries of what was deleted bring nothing back.
    assert verdicts(after(history, ordered, sorted(deleted))) == verdicts(history)
