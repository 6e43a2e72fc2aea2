"""Agreement of the reviewers of a run, the quality of each of them, and their conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from service.diagnostics.agreement import Ratings
from service.mining.queues import outlines
from service.mining.reviewer_quality import Observations, observe
from service.mining.visibility import seen_history
from service.queries.sql import LATEST
from service.queries.view import View
from service.runs.review_history import ReviewHistory, Standing
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.people import Principal
from service.schema.replies.agreement import (
    Agreement,
    AgreementMeasures,
    Conflict,
    ConflictingReview,
    PairAgreement,
    ReviewerSummary,
)
from service.schema.replies.reviews import Review

REVIEWERS_SHOWN, PAIRS_SHOWN, CONFLICTING_SHOWN = 100, 500, 20
# Categories of verdicts that name no class.
OTHER, AS_GIVEN = -1, -2


def agreement(store: RunStore, view: View, who: Principal, *, limit: int, offset: int) -> Agreement:
    """The reply of `GET /runs/{run}/agreement`.

    Args:
        store: Store of the queues and reviews.
        view: The run.
        who: The caller, who may not see all conflicts.
        limit: Maximum number of conflicts in the reply.
        offset: Number of conflicts before them.
    """
    history = store.reviews(view.snapshot)
    queues = [str(queue.head["name"]) for queue in outlines(store, view.snapshot)]
    key = ("agreement", history.last, history.size, queues)
    measures = view.cached(key, lambda: _measures(store, view, history))
    reviewers = measures["reviewers"]
    if not who.has("owner"):
        reviewers = [{**one, "gold": None} for one in reviewers]
    seen = seen_history(store, view.snapshot, who)
    conflicts = sorted(
        (one for one in seen.current if one.verdict == "conflict"), key=lambda one: _place(one.reviews[0])
    )
    return {
        "run": view.snapshot.name,
        **measures,
        "reviewers": reviewers,
        "num_conflicts": len(conflicts),
        "offset": offset,
        "conflicts": [_conflict(standing) for standing in conflicts[offset : offset + limit]],
    }


def _measures(store: RunStore, view: View, history: ReviewHistory) -> AgreementMeasures:
    standings = history.current
    counts: dict[str | None, Counter[str | None]] = {}
    for standing in standings:
        for review in standing.reviews:
            counts.setdefault(review["reviewer"], Counter())[review["verdict"]] += 1
    reviewers = sorted(counts, key=lambda name: (-counts[name].total(), name is not None, name or ""))
    ratings = ratings_of(standings, reviewers, given_labels(view, standings))
    alpha, (low, high) = ratings.krippendorff()
    seen = observe(outlines(store, view.snapshot), history)
    return {
        "num_items": len(standings),
        "num_compared": ratings.num_compared,
        "num_reviewers": len(reviewers),
        "fleiss_kappa": ratings.fleiss(),
        "krippendorff_alpha": {"value": alpha, "low": low, "high": high},
        "pairs": _pairs(ratings, reviewers[:REVIEWERS_SHOWN]),
        "reviewers": [_summary(name, counts[name], seen) for name in reviewers[:REVIEWERS_SHOWN]],
        "suggestion_shown": seen.uptake("shown"),
        "suggestion_hidden": seen.uptake("hidden"),
    }


def given_labels(view: View, standings: Iterable[Standing]) -> Mapping[str, int]:
    """The given label of each reviewed example: the target of its last row. Empty in a structured run."""
    if view.is_structured:
        return {}
    ids = {review["id"] for standing in standings for review in standing.counting}
    view.cursor.register("reviewed_ids", pa.table({"id": pa.array(list(ids), pa.string())}))
    rows = view.table(
        f"""SELECT id, arg_max(target, {LATEST}) AS target FROM {view.every_row()} SEMI JOIN reviewed_ids USING (id)
        GROUP BY id"""
    )
    return dict(zip(rows["id"].to_pylist(), rows["target"].to_pylist(), strict=True))


def ratings_of(standings: Sequence[Standing], reviewers: Sequence[str | None], given: Mapping[str, int]) -> Ratings:
    """The labels that follow from the verdicts of the reviewers; adjudications are no ratings.

    Args:
        standings: Examples and units.
        reviewers: All reviewers; the number of a rater is the index here.
        given: Given labels by id; for other ids `ok` is a category of its own.
    """
    numbers = {name: number for number, name in enumerate(reviewers)}
    rows = [
        (item, numbers[review["reviewer"]], category)
        for item, standing in enumerate(standings)
        for review in standing.reviews
        if (category := _category(review, given)) is not None
    ]
    items, raters, labels = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    categories: np.ndarray[tuple[int], np.dtype[np.int64]] = np.unique(labels, return_inverse=True)[1]
    return Ratings(items, raters, categories)


def _category(review: Review, given: Mapping[str, int]) -> int | None:
    if review["verdict"] == "ok":
        return given.get(review["id"], AS_GIVEN)
    if review["verdict"] == "wrong":
        return OTHER if review["label"] is None else review["label"]
    return None


def _pairs(ratings: Ratings, reviewers: Sequence[str | None]) -> list[PairAgreement]:
    found = sorted(ratings.cohen(len(reviewers)), key=lambda pair: (-pair[2], pair[0], pair[1]))
    return [
        {
            "first": reviewers[first],
            "second": reviewers[second],
            "num_common": common,
            "agreement": share,
            "cohen_kappa": kappa,
        }
        for first, second, common, share, kappa in found[:PAIRS_SHOWN]
    ]


def _summary(reviewer: str | None, counts: Counter[str | None], seen: Observations) -> ReviewerSummary:
    return {
        "reviewer": reviewer,
        "num_reviewed": counts.total(),
        "num_ok": counts["ok"],
        "num_wrong": counts["wrong"],
        "num_unsure": counts["unsure"],
        "num_exclude": counts["exclude"],
        "gold": seen.gold_rows(reviewer),
        "suggestion_shown": seen.uptake("shown", reviewer),
        "suggestion_hidden": seen.uptake("hidden", reviewer),
    }


def _place(review: Review) -> tuple[UnitKey, int]:
    return UnitKey.of(review), review.get("epoch") or 0


def _conflict(standing: Standing) -> Conflict:
    first = standing.reviews[0]
    conflict: Conflict = {
        "id": first["id"],
        "num_reviews": len(standing.reviews),
        "reviews": [_told(review) for review in standing.reviews[:CONFLICTING_SHOWN]],
    }
    if "unit" in first:
        conflict["unit"] = first["unit"]
    if "epoch" in first:
        conflict["epoch"] = first["epoch"]
    return conflict


def _told(review: Review) -> ConflictingReview:
    return {
        "review": review["review"],
        "reviewer": review["reviewer"],
        "verdict": review["verdict"],
        "label": review["label"],
        "comment": review["comment"],
        "at": review["at"],
    }
