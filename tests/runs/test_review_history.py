"""The standing of examples: each reviewer's last verdict, adjudications, and histories that grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.runs import review_history
from service.runs.review_history import MAX_REVIEWERS, ReviewHistory
from service.runs.units import UnitKey
from tests.runs.histories import history_of

OK, WRONG, WRONG_2, WRONG_3, UNSURE, EXCLUDE, NONE = (
    {"verdict": "ok"},
    {"verdict": "wrong"},
    {"verdict": "wrong", "label": 2},
    {"verdict": "wrong", "label": 3},
    {"verdict": "unsure"},
    {"verdict": "exclude"},
    {"verdict": None},
)
ANN, BOB, EVE = {"reviewer": "ann"}, {"reviewer": "bob"}, {"reviewer": "eve"}
SETTLES = EVE | {"adjudicated": True}


@pytest.mark.parametrize(
    ("reviews", "verdict", "label"),
    [
        ([OK], "ok", None),
        ([OK, WRONG_2], "wrong", 2),
        ([ANN | OK, BOB | OK], "ok", None),
        ([ANN | OK, BOB | WRONG], "conflict", None),
        ([ANN | OK, BOB | UNSURE], "conflict", None),
        ([ANN | OK, EXCLUDE], "conflict", None),
        ([ANN | WRONG, BOB | WRONG_2], "wrong", 2),
        ([ANN | WRONG_2, BOB | WRONG_3], "conflict", None),
        ([ANN | WRONG_2, BOB | WRONG_3, ANN | WRONG_3], "wrong", 3),
        ([ANN | OK, BOB | WRONG, BOB | NONE], "ok", None),
        ([ANN | OK, ANN | NONE], None, None),
        ([ANN | OK, BOB | WRONG, SETTLES | WRONG_3], "wrong", 3),
        ([ANN | OK, SETTLES | EXCLUDE, BOB | WRONG], "exclude", None),
        ([ANN | OK, SETTLES | WRONG_3, SETTLES | NONE], "ok", None),
        # The same person judges, and settles: both count.
        ([EVE | OK, ANN | OK, SETTLES | WRONG_2, SETTLES | NONE], "ok", None),
    ],
)
def test_one_reviewers_verdict_never_hides_anothers(
    reviews: list[dict[str, Any]], verdict: str | None, label: int | None
) -> None:
    history = history_of(*({"id": "a", **review} for review in reviews))
    standing = history.verdicts.get(UnitKey("a"))
    assert (standing and standing.verdict, standing and standing.label) == (verdict, label)
    last = history.last_review(UnitKey("a"))
    assert last is not None
    assert last["review"] == history.reviews[-1]["review"]


REVIEWS = st.builds(
    lambda identity, epoch, reviewer, verdict, label, adjudicated: {
        "id": identity,
        **({} if epoch is None else {"unit": 0, "epoch": epoch}),
        "reviewer": reviewer,
        "verdict": verdict,
        "label": label,
        **({"adjudicated": True} if adjudicated else {}),
    },
    st.sampled_from("abc"),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["ann", "bob", None]),
    st.sampled_from(["ok", "wrong", None]),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
)


def model(reviews: list[Mapping[str, Any]], epoch: int) -> dict[UnitKey, set[int]]:
    """The positions of the reviews that count for each key of an epoch, by a scan of all."""
    found: dict[UnitKey, dict[object, int]] = {}
    for position, review in enumerate(reviews):
        if review.get("epoch") in (None, epoch):
            by = found.setdefault(UnitKey.of(review), {})
            who = "the owner" if review.get("adjudicated") else (review["reviewer"],)
            by.pop(who, None)
            if review["verdict"] is not None:
                by[who] = position
    return {key: set(by.values()) for key, by in found.items() if by}


@given(st.lists(st.lists(REVIEWS, max_size=4), max_size=8))
def test_a_history_that_grows_is_the_same_as_a_new_one_and_the_old_one_stays(lists: list[list[dict[str, Any]]]) -> None:
    history, seen = ReviewHistory([]), []
    for reviews in lists:
        before, reviews_before = history, history.reviews
        history = history_of(*reviews, history=history)
        seen += reviews
        assert before.reviews == reviews_before
        assert history.since(before.size) == history.reviews[len(reviews_before) :]
    again = ReviewHistory([]).extended(
        [(name, [review]) for name, review in zip(map("{:020d}-x".format, range(99)), history.reviews, strict=False)]
    )
    positions = {review["review"]: position for position, review in enumerate(history.reviews)}
    for epoch in (0, 1, 2):
        assert dict(history.verdicts_of(epoch)) == dict(again.verdicts_of(epoch))
        counting = {
            key: {positions[review["review"]] for review in (*standing.reviews, standing.adjudicated) if review}
            for key, standing in history.verdicts_of(epoch).items()
        }
        assert counting == model(seen, epoch)
    kept = sorted({position for epoch in (0, 1) for found in model(seen, epoch).values() for position in found})
    assert [positions[review["review"]] for review in history.counting] == kept


def test_a_history_that_is_extended_twice_has_no_reviews_of_the_other() -> None:
    base = history_of({"id": "a", **OK})
    first, second = history_of({"id": "b", **OK}, history=base), history_of({"id": "c", **WRONG}, history=base)
    assert [review["id"] for review in first.reviews] == ["a", "b"]
    assert [review["id"] for review in second.reviews] == ["a", "c"]
    assert [review["id"] for review in base.reviews] == ["a"]


def test_the_reviews_of_the_last_state_of_an_annotation() -> None:
    def of(identity: str, updated_at: str, **review: Any) -> dict[str, Any]:
        return {"id": "a", **OK, **review, "source": {"tool": "argilla", "id": identity, "updated_at": updated_at}}

    history = history_of(of("7", "1", unit=0), of("7", "1", unit=1), of("8", "1"))
    assert [review.get("unit") for review in history.by_source("argilla", "7")] == [0, 1]
    history = history_of(of("7", "2", unit=1), history=history)
    assert [review.get("unit") for review in history.by_source("argilla", "7")] == [1]
    assert history.by_source("label-studio", "7") == ()


def test_an_example_has_a_bounded_number_of_reviewers() -> None:
    many = [{"id": "a", **OK, "reviewer": str(number)} for number in range(MAX_REVIEWERS)]
    full = history_of(*many)
    again = {**full.reviews[0], "verdict": "wrong"}
    full.extended([("2-x", [again])], max_reviewers=MAX_REVIEWERS)  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError, match="500 reviewers") as refused:
        full.extended([("2-x", [again, {**again, "reviewer": "one more"}])], max_reviewers=MAX_REVIEWERS)  # type: ignore[list-item]
    assert refused.value.errors[0]["loc"] == [1, "reviewer"]


A = UnitKey("a")


def test_the_standing_after_an_earlier_review() -> None:
    lists = [[ANN | OK | {"comment": "x"}], [BOB | WRONG], [BOB | NONE], [ANN | WRONG_2]]
    history, seen = ReviewHistory([]), []
    for reviews in lists:
        history = history_of(*({"id": "a", **review} for review in reviews), history=history)
        standing = history.standing(A)
        assert standing is not None
        seen.append((standing.last, standing.verdict, standing.comment))
    assert [verdict for _, verdict, _ in seen] == ["ok", "conflict", "ok", "wrong"]
    for last, verdict, comment in seen:
        after = history.standings_after({(A, None): last})[A, None]
        assert (after.last, after.verdict, after.comment) == (last, verdict, comment)
    # An id of another example, or of no review.
    other = history_of(ANN | OK | {"id": "b"}, history=history)
    of_other = other.verdicts[UnitKey("b")].last
    assert other.standings_after({(A, None): of_other}) == other.standings_after({(A, None): "x"}) == {}
    # Without a verdict there was none to export.
    withdrawn = history_of(ANN | NONE | {"id": "a"}, history=history)
    assert withdrawn.standing(A) is None
    assert withdrawn.standings_after({(A, None): withdrawn.reviews[-1]["review"]}) == {}


@pytest.mark.parametrize("hidden", [{"a"}, {"b", "c"}, {"a", "b", "c"}, set()])
@pytest.mark.parametrize("cost", [0.0, 1000.0])
def test_a_history_without_some_examples_is_that_of_the_other_reviews(
    hidden: set[str], cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_history, "REMOVED_IN_THE_TIME_OF_ONE", cost)
    whole = history_of(
        {"id": "a", "verdict": "ok"},
        {"id": "b", "verdict": "wrong", "unit": 3, "epoch": 1},
        {"id": "b", "verdict": "wrong"},
        {"id": "a", "verdict": None},
        {"id": "c", "verdict": "ok"},
        {"id": "c", "verdict": "wrong", "reviewer": "kim"},
        {"id": "a", "verdict": "unsure"},
    )
    seen = whole.without([review["id"] in hidden for review in whole.reviews])
    reviews = [review for review in whole.reviews if review["id"] not in hidden]
    assert seen.reviews == reviews
    assert {key.id for key in seen.verdicts} == {"a", "b", "c"} - hidden
    assert all(seen.verdicts[key] == whole.verdicts[key] for key in seen.verdicts)
    assert +Counter(seen.counts) == Counter(standing.verdict for standing in seen.current)
    assert (seen.last_review(UnitKey("a")) is None) == ("a" in hidden)
    assert len(whole.current) == 4
