"""Reviews: what people said of examples, kept for good, and how good the strategies were by it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import InvalidRequestError, UnknownExampleError
from service.mining.listing import listings
from service.runs.queries import View
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.faults import validation_fault

FOLDER = "reviews"
MAX_REVIEWS = 10_000
Z_95 = 1.959963984540054  # the 97.5 % point of the normal distribution
LEAST_REVIEWS = 10


class Review(BaseModel):
    """What somebody said of an example's label.

    Args:
        id: Of the example; an integer is taken as its text.
        verdict: `ok`, `wrong`, `unsure`; null takes back what was said before.
        label: The class that it should have; with `wrong`, if it is known.
        reviewer: Who said it.
        queue: Where it was met.
        comment: Whatever else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str | int, Field(union_mode="left_to_right")]
    verdict: Literal["ok", "wrong", "unsure"] | None
    label: Annotated[int, Field(ge=0)] | str | None = None
    reviewer: Annotated[str, Field(max_length=200)] | None = None
    queue: Annotated[str, Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None


_REVIEWS = TypeAdapter(Annotated[list[Review], Field(max_length=MAX_REVIEWS)])


def add_reviews(store: RunStore, view: View, value: Any) -> int:
    """Keep reviews, all or none; how many.

    Args:
        store: Where to keep them.
        view: Of the run.
        value: The decoded JSON: a list of `Review`.

    Raises:
        InvalidRequestError: Something in it is no review, or names a class that the run has not.
        UnknownExampleError: An example that the run has not; names the first.
    """
    try:
        given = _REVIEWS.validate_python(value)
    except ValidationError as err:
        raise validation_fault(InvalidRequestError, err) from err
    ids = sorted({str(one.id) for one in given})
    sql = f"SELECT DISTINCT id FROM {view.stored()} WHERE id IN (SELECT unnest(?::VARCHAR[]))"
    known = {row["id"] for row in view.rows(sql, [ids])}
    now = datetime.now(UTC).isoformat()
    kept = []
    for number, one in enumerate(given):
        if str(one.id) not in known:
            msg = f"run {view.snapshot.name} has no example {str(one.id)[:100]!r}"
            raise UnknownExampleError(msg, errors=[{"loc": [number, "id"], "msg": msg}])
        label = _label(view.snapshot, number, one)
        kept.append({**one.model_dump(), "id": str(one.id), "label": label, "at": now})
    if kept:
        # By time, so that the last word is the last name; also where a clock is set back.
        said = store.documents(view.snapshot, FOLDER)
        stamp = max(time.time_ns(), int(said[-1].partition("-")[0]) + 1 if said else 0)
        store.add_document(view.snapshot, FOLDER, f"{stamp:020d}-{uuid4().hex[:12]}", kept)
    return len(kept)


def _label(snapshot: Snapshot, number: int, one: Review) -> int | None:
    names, num_classes = snapshot.description.class_names, snapshot.num_classes or 0
    label = one.label
    if isinstance(label, str):
        if names is None or label not in names:
            raise _label_error(number, f"{label[:100]!r} is no class name of the run")
        return names.index(label)
    if label is not None and label >= num_classes:
        raise _label_error(number, f"class {label} is outside [0, {num_classes})")
    return label


def _label_error(number: int, msg: str) -> InvalidRequestError:
    return InvalidRequestError(f"review {number}: {msg}", errors=[{"loc": [number, "label"], "msg": msg}])


def history(store: RunStore, snapshot: Snapshot) -> list[dict[str, Any]]:
    """All reviews of a run, the first first."""
    return [
        review for name in store.documents(snapshot, FOLDER) for review in store.document(snapshot, FOLDER, name) or ()
    ]


def verdicts(reviews: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last word on each example; none where it was taken back."""
    last = {review["id"]: review for review in reviews}
    return {identity: review for identity, review in last.items() if review["verdict"] is not None}


def progress(store: RunStore, snapshot: Snapshot, last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the reviews say: how many labels were wrong, the precision so far of each strategy, the error rate.

    - precision: of the rows that a strategy put into queues and that have a verdict of ok or wrong, the share that
      was wrong; with its 95 % Wilson interval;
    - error_rate: the same of rows that were drawn at random from all examples: an unbiased estimate for the whole run.
    """
    of_strategy: dict[str, set[str]] = {}
    control: set[str] = set()
    is_controlled = False
    reviewed = pa.array(list(last), pa.string())
    for one in listings(store, snapshot):
        for strategy in one.doubts:
            of_strategy.setdefault(strategy, set())
        is_controlled |= bool(pc.any(one.rows["control"]).as_py())
        said = one.rows.select(["id", "strategy", "control"]).filter(pc.is_in(one.rows["id"], reviewed))
        for row in said.to_pylist():
            of_strategy[row["strategy"]].add(row["id"])
            if row["control"]:
                control.add(row["id"])
    found = [review["verdict"] for review in last.values()]
    return {
        "num_reviewed": len(found),
        "num_wrong": found.count("wrong"),
        "num_ok": found.count("ok"),
        "num_unsure": found.count("unsure"),
        "precision": {name: share_wrong(ids, last) for name, ids in sorted(of_strategy.items())},
        "error_rate": share_wrong(control, last) if is_controlled else None,
    }


def share_wrong(ids: Iterable[str], last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many of these examples were called wrong, among those called ok or wrong, with the 95 % interval."""
    said = [last[identity]["verdict"] for identity in ids if identity in last]
    wrong, judged = said.count("wrong"), said.count("wrong") + said.count("ok")
    low, high = wilson(wrong, judged)
    return {
        "reviewed": len(said),
        "wrong": wrong,
        "unsure": said.count("unsure"),
        "share": wrong / judged if judged else None,
        "low": low,
        "high": high,
    }


def wilson(successes: int, trials: int) -> tuple[float | None, float | None]:
    """The 95 % score interval of a share (Wilson 1927); none without trials."""
    if not trials:
        return None, None
    share, square = successes / trials, Z_95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # At the ends the interval ends there too, and rounding would leave a hair.
    return middle - half if successes else 0.0, middle + half if successes < trials else 1.0


def expected_yield(doubts: Mapping[str, tuple[int, float]], precision: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many wrong labels a queue may hold.

    A strategy with at least ten verdicts of ok or wrong is trusted with its precision so far; else the model's own
    doubt is all there is.

    Args:
        doubts: Of each strategy in the queue, how many rows it has and how many are wrong by the model's doubt.
        precision: Of each strategy, as `progress` gives it.
    """
    total, by_reviews, rows = 0.0, 0, 0
    for strategy, (number, doubt) in doubts.items():
        so_far = precision.get(strategy)
        rows += number
        if so_far is not None and so_far["reviewed"] - so_far["unsure"] >= LEAST_REVIEWS:
            total += number * so_far["share"]
            by_reviews += number
        else:
            total += doubt
    caveat = (
        "From the precision so far of the strategy: later rows are less suspicious than earlier ones, so expect fewer."
        if by_reviews == rows and rows
        else "The model's own doubt: true only as far as it is calibrated and has not seen the examples."
    )
    return {"wrong_labels": total, "rows": rows, "caveat": caveat}
