"""The choice of the rows of a queue: its strategy, the ranking of the candidates, gold rows, and the queue's head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from service.mining.candidates import candidate_table
from service.mining.gold import Gold, mark_gold
from service.mining.queue_rows import queue_rows, with_control
from service.mining.queue_rules import row_condition, rule_of, without_keys
from service.mining.queue_table import QueueTable, without_suggestion
from service.mining.recommended import recommended
from service.mining.requests import QueueRequest
from service.mining.run_ranks import other_runs
from service.mining.selection import select
from service.mining.structured_rows import structured_rows
from service.mining.unit_requests import check_task
from service.queries.sql import Condition
from service.queries.unit_names import UNIT_JSON
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.runs.store import RunStore
from service.runs.units import WHOLE, UnitKey
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import ChosenStrategy, QueueHead, QueueSettings

# The score of an example by which a strategy ranks, if some statistics do not give it.
SCORE_OF: dict[Strategy, str] = {
    "logit_margin": "logit_margin",
    "semi_hard": "logit_margin",
    "area_under_margin": "logit_margin",
    "normalized_margin": "normalized_margin",
    "ambiguous": "entropy",
}
LABEL_BLIND = "ambiguous ignores the label: it finds examples that are hard to classify, not labels that are wrong"


def choose(
    store: RunStore,
    view: View,
    request: QueueRequest,
    settings: QueueSettings,
    weighting: Weighting,
    reviewed: Collection[UnitKey],
    adjudicated: Sequence[UnitKey],
    queues: Callable[[], Sequence[QueueTable]],
) -> QueueTable:
    """Choose the rows of a request; the queue has no name and is not stored.

    Args:
        store: Store of the reviews and of further runs.
        view: The run.
        request: Strategy, budget and conditions, with numbers of classes.
        settings: The request, for the head.
        weighting: Weighting of the losses.
        reviewed: The examples and units with a verdict.
        adjudicated: Result of `gold_keys`, for gold rows.
        queues: Returns outlines of the queues of the run, for `recommended`.

    Raises:
        InvalidRequestError: The quotas do not fit the run, or the strategy needs logits and the run stores none.
    """
    epoch, strategy = view.snapshot.epoch(request.epoch), request.strategy
    with other_runs(store, view, request.runs) as others:
        request, choice = _with_choice(store, view, request, weighting, epoch, others, queues)
        check_task(request, view.snapshot.description.task)
        condition = row_condition(view, request.only, weighting, request.first)
        people = store.reviews(view.snapshot).verdicts_of(epoch) if request.reviewers else None
        gold = Gold.find(view, request, weighting, epoch, condition, adjudicated, others, people)
        ordinary = request.model_copy(update={"budget": request.budget - gold.number})
        excluded = list(reviewed) if request.leaves_out_reviewed else []
        rows, control = _ranked(view, ordinary, weighting, epoch, condition, excluded, others, people)
    planted = gold.plant(rows, request.seed)
    losses = "loss_sum" if view.is_structured else "loss"
    totals = view.row(
        f"SELECT count(*) AS n, coalesce(sum({losses}), 0.0) AS loss FROM {view.scored(weighting, epoch)}"
    )
    head: QueueHead = {
        "name": None,
        "run": view.snapshot.name,
        "created_at": datetime.now(UTC).isoformat(),
        "strategy": strategy,
        **choice,
        "epoch": epoch,
        "num_examples": totals["n"],
        "request": settings,
        "is_control": control is not None,
        "warnings": [*_warnings(view, request, weighting, epoch), *gold.warnings(planted)],
    }
    if view.is_structured:
        rows = structured_rows(view, weighting, epoch, planted, totals["loss"], 1 + len(others))
    else:
        rows = queue_rows(view, request, weighting, epoch, planted, totals["loss"], 1 + len(others))
    rows = with_control(rows, () if control is None else control)
    return QueueTable.of(head, _marked(rows, planted, request))


def _ranked(
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    epoch: int,
    condition: Condition,
    excluded: Sequence[UnitKey],
    others: Sequence[View],
    people: Verdicts | None,
) -> tuple[pa.Table, pa.Array | None]:
    """The chosen candidates, and the ids of the random sample among them; None if it is no sample of all examples."""
    rule = rule_of(view, request, weighting, epoch, condition)

    def where(of_units: bool) -> Condition:
        return without_keys(condition, excluded, UNIT_JSON[view.snapshot.description.task] if of_units else None)

    # Random rows estimate the error rate of the run only if they are a random sample of all examples.
    is_sample = not request.has_row_rules and all(key.unit != WHOLE for key in excluded)
    is_control = "random" in request.parts and is_sample
    limit = rule.rows_of_a_ranking
    with candidate_table(view, request, weighting, epoch, where, limit, others, people) as candidates:
        chosen = select(rule, candidates.batches)
        return candidates.all_columns(chosen), candidates.random_ids(chosen) if is_control else None


def _marked(rows: pa.Table, planted: pa.Table, request: QueueRequest) -> pa.Table:
    """The rows of a queue with the marks of gold rows, and of rows without a suggestion, if it may have them."""
    if request.gold:
        rows = mark_gold(rows, planted)
    return without_suggestion(rows, request.without_suggestion, request.seed) if request.without_suggestion else rows


def _with_choice(
    store: RunStore,
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    epoch: int,
    others: Sequence[View],
    queues: Callable[[], Sequence[QueueTable]],
) -> tuple[QueueRequest, ChosenStrategy]:
    """The request with what it leaves to the run: the kind of its rows, and the strategy, which is also returned."""
    if request.units is None and view.has_counts(epoch):
        # Masks that were sent as histograms have no units.
        request = request.model_copy(update={"units": False})
    if request.strategy != "recommended":
        return request, {}
    verdicts = store.reviews(view.snapshot).verdicts_of(epoch)
    chosen = recommended(view, request, weighting, epoch, verdicts, queues(), others)
    return request.model_copy(update={"strategy": chosen["strategy"], "mix": chosen["mix"]}), {"chosen": chosen}


def _warnings(view: View, request: QueueRequest, weighting: Weighting, epoch: int) -> list[str]:
    warnings = [LABEL_BLIND] if "ambiguous" in request.parts else []
    if request.units and view.has_counts(epoch):
        number = view.row(f"SELECT count(*) AS n FROM {view.scored(weighting, epoch)} WHERE num_wrong IS NULL")["n"]
        warnings.append(f"{number} masks were sent as histograms, which have no regions, and are left out")
    # Only examples that were sent as statistics lack a score.
    if view.is_structured and not view.snapshot.has_logits(epoch):
        scores = {SCORE_OF[strategy] for strategy in request.parts if strategy in SCORE_OF}
        for score in sorted(scores):
            number = view.row(f"SELECT count(*) AS n FROM {view.scored(weighting, epoch)} WHERE isnan({score})")["n"]
            if number:
                warnings.append(f"{number} examples were sent without {score}, and are left out of its ranking")
    return warnings
