"""The index of the rows of a queue and the verdicts on them, compared with a scan of all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mining import key_index
from service.mining.key_index import ABSENT, KeyIndex, Rows
from service.mining.row_states import WORDS, RowStates, StateTracker
from service.runs.review_history import ReviewHistory
from service.runs.units import UnitKey
from tests.runs.histories import history_of

KEYS = [UnitKey(f"e{row}") for row in range(4)] + [UnitKey("e0", str(region)) for region in range(3)]
GOLD = np.array([False, True, False, False, False, False, True])
EPOCH, PLANTED = 3, "2026-11-30T12:00:30+00:00"

REVIEWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["e0", "e1", "e2", "other"]),
            "verdict": st.sampled_from(["ok", "wrong", "unsure", "exclude", None]),
            "label": st.sampled_from([None, 1]),
            "reviewer": st.sampled_from([None, "kim", "lee"]),
            "at": st.sampled_from([f"2026-11-30T12:00:{second}+00:00" for second in (10, 40)]),
        },
        optional={
            "unit": st.integers(0, 3),
            "epoch": st.sampled_from([EPOCH, EPOCH + 1]),
            "adjudicated": st.just(True),
        },
    ),
    max_size=8,
)


def index_of(keys: list[UnitKey]) -> KeyIndex:
    return KeyIndex(keys, lambda rows: [keys[row] for row in rows])


def new_tracker() -> StateTracker:
    return StateTracker(index_of(KEYS), EPOCH, GOLD, PLANTED)


def scanned(history: ReviewHistory) -> list[tuple[str | None, set[str | None], bool]]:
    """Verdict, reviewers and adjudication of each row."""
    rows: list[tuple[str | None, set[str | None], bool]] = []
    for key, is_gold in zip(KEYS, GOLD, strict=True):
        standing = history.verdicts_of(EPOCH).get(key)
        reviews = () if standing is None else standing.reviews
        if is_gold and standing is not None:
            reviews = tuple(review for review in reviews if review["at"] > PLANTED)
            standing = type(standing).of(reviews, None, standing.last)
        settled = standing is not None and standing.adjudicated is not None
        rows.append((standing and standing.verdict, {review["reviewer"] for review in reviews}, settled))
    return rows


def check(states: RowStates, history: ReviewHistory) -> None:
    expected = scanned(history)
    assert [WORDS[code] for code in states.codes] == [verdict for verdict, _, _ in expected]
    assert states.num_reviewers.tolist() == [len(reviewers) for _, reviewers, _ in expected]
    assert states.settled.tolist() == [settled for _, _, settled in expected]
    for reviewer in (None, "kim", "lee", "nobody"):
        assert states.is_judged_by(reviewer).tolist() == [reviewer in reviewers for _, reviewers, _ in expected]
    assert states.counts() == {word: [row[0] for row in expected].count(word) for word in WORDS if word}


@given(st.lists(REVIEWS, max_size=5))
def test_the_states_after_each_list_equal_a_scan(lists: list[list[dict[str, Any]]]) -> None:
    tracker, history = new_tracker(), history_of()
    for reviews in lists:
        # Regions have an epoch, examples have none.
        fitting = [
            {**review, "epoch": review.get("epoch", EPOCH)} if "unit" in review else review for review in reviews
        ]
        for review in fitting:
            if "unit" not in review:
                review.pop("epoch", None)
        history = history_of(*fitting, history=history)
        check(tracker.at(history), history)
        rows = {key: row for row, key in enumerate(KEYS)}
        assert tracker.at(history).reviewed.tolist() == [
            rows.get(UnitKey.of(review), ABSENT) for review in history.reviews
        ]
    check(new_tracker().at(history), history)


def test_an_older_history_changes_nothing_and_another_one_is_read_from_its_beginning() -> None:
    tracker = new_tracker()
    first = history_of({"id": "e2", "verdict": "ok"})
    second = history_of({"id": "e3", "verdict": "wrong"}, history=first)
    check(tracker.at(second), second)
    check(tracker.at(first), second)
    # Another machine has added a list before the last one.
    earlier: list[Any] = [
        {**review, "review": "early.0"} for review in history_of({"id": "e0", "verdict": "ok"}).reviews
    ]
    inserted = ReviewHistory([]).extended([("0", earlier), ("1", second.reviews)])
    check(tracker.at(inserted), inserted)


def test_done_rows_have_enough_reviewers_or_are_settled() -> None:
    history = history_of(
        {"id": "e2", "verdict": "ok", "reviewer": "kim"},
        {"id": "e2", "verdict": "wrong", "reviewer": "lee"},
        {"id": "e3", "verdict": "ok", "adjudicated": True},
        {"id": "e0", "verdict": "ok"},
    )
    done = [new_tracker().at(history).is_done(overlap).tolist()[:4] for overlap in (1, 2, 3)]
    assert done == [[True, False, True, True], [False, False, True, True], [False, False, False, True]]


@pytest.mark.parametrize("collide", [False, True])
def test_the_index_finds_each_key_also_if_hashes_collide(collide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if collide:

        def hashes(keys: list[UnitKey]) -> Rows:
            return np.array([len(key.unit) for key in keys], np.int64)

        monkeypatch.setattr(key_index, "hashes_of", hashes)
    index = index_of(KEYS)
    assert index.find(KEYS[::-1]).tolist() == list(range(len(KEYS)))[::-1]
    assert index.find([UnitKey("none"), KEYS[5], UnitKey("e0", "7")]).tolist() == [ABSENT, 5, ABSENT]
    assert index.find([]).tolist() == []
    assert index_of([]).find(KEYS[:2]).tolist() == [ABSENT, ABSENT]
