"""The strategies of queues: the rows of each, their order, and the suggested class of each row.

Rows are examples, or units of structured examples; the queries of both have the same columns. Every order ends with id,
batch, row and unit, so it is total and reproducible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from service.diagnostics.adjusted import adjusted_scores
from service.diagnostics.annotators.run_consensus import run_consensus
from service.diagnostics.chunks import softmax
from service.diagnostics.dynamics import area_under_margin, last_epoch
from service.diagnostics.label_errors import confident_learning, suspected
from service.diagnostics.rows import chunks_of, placed_chunks
from service.errors import InvalidRequestError
from service.mining.requests import QueueRequest
from service.mining.unit_requests import counted_class, ranks_units
from service.mining.unit_suspects import unit_suspects
from service.queries.sql import literal, quoted
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.schema.replies.fields import Strategy

SUGGESTED = "CASE WHEN prediction != target THEN prediction END"
# normalized_margin is (p_t - p_other + 1) / 2; here p_other, the largest other probability, is that of the prediction.
SUGGESTED_P = "CASE WHEN prediction != target THEN least(greatest(p_t + 1 - 2 * normalized_margin, 0), 1) END"


@dataclass(frozen=True)
class Ranking:
    """The ranking of a strategy in SQL.

    Args:
        source: Subquery of the rows and their scores.
        score: Expression of the strategy's score.
        order: Sort keys, before id, batch and row.
        where: Condition on the rows.
        suggested: Expression of the class that the model suggests, null if it agrees with the target.
        suggested_p: Expression of the probability of the suggested class.
        of_units: True if the rows are units.
        counted_class: Expression of the class that quotas count.
    """

    source: str
    score: str
    order: str
    where: str = "true"
    suggested: str = SUGGESTED
    suggested_p: str = SUGGESTED_P
    of_units: bool = False
    counted_class: str = "target"

    def sql(self, condition: str, limit: int | None) -> str:
        """A query of the candidates that meet a further condition, with their `place` in the ranking, from 1.

        Args:
            condition: The condition.
            limit: Number of candidates; None for all.
        """
        first = "" if limit is None else f"LIMIT {literal(limit)}"
        unit, last = ("unit", ", unit") if self.of_units else ("NULL::INTEGER", "")
        # Without an order of its own the window numbers the rows as they come; it would hold all of them otherwise.
        return f"""SELECT *, row_number() OVER () AS place FROM (
            SELECT id, batch, row, {unit} AS unit, {self.counted_class} AS counted_class,
            ({self.score})::DOUBLE AS score, {self.suggested} AS suggested,
            ({self.suggested_p})::DOUBLE AS suggested_p FROM {self.source} WHERE {self.where} AND {condition}
            ORDER BY {self.order}, id, batch, row{last} {first})"""


@dataclass(frozen=True)
class Rows:
    """The rows that a strategy ranks.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        request: Parameters of the strategies.
        of_units: True for the units of structured examples, False for examples.
        verdicts: Verdicts whose reviewers count as annotators; None for annotators only.
    """

    view: View
    weighting: Weighting
    epoch: int
    request: QueueRequest
    of_units: bool
    verdicts: Verdicts | None = None

    @property
    def sql(self) -> str:
        """Subquery of the rows and their scores."""
        if self.of_units:
            return self.view.units(self.weighting, self.epoch)
        return self.view.scored(self.weighting, self.epoch)

    @property
    def p_t(self) -> str:
        """Expression of the probability of the target; of a unit the smallest of its elements, and not their mean."""
        return "1 / (1 + exp(-log_odds::DOUBLE))" if self.of_units else "p_t"

    def known(self, score: str) -> str:
        """Condition that a score is known: some statistics of structured examples give no margins and no entropy."""
        return f"NOT isnan({score})" if self.view.is_structured else "true"


def ranking(
    strategy: Strategy,
    view: View,
    weighting: Weighting,
    epoch: int,
    request: QueueRequest,
    verdicts: Verdicts | None = None,
) -> Ranking:
    """The ranking of the rows of an epoch by a strategy.

    Args:
        strategy: The strategy.
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        request: Parameters of the strategies.
        verdicts: Verdicts whose reviewers count as annotators; None for annotators only.

    Raises:
        InvalidRequestError: The strategy needs the logits of all classes, but the epoch stores none.
    """
    task = view.snapshot.description.task
    of_units = ranks_units(strategy, request, task)
    ranked = _STRATEGIES[strategy](Rows(view, weighting, epoch, request, of_units, verdicts))
    if not of_units:
        return ranked
    return replace(ranked, suggested_p="suggested_p", of_units=True, counted_class=counted_class(task))


def _top_loss(rows: Rows) -> Ranking:
    return Ranking(rows.sql, "loss", "log_loss DESC")


def _lowest(score: str) -> Callable[[Rows], Ranking]:
    return lambda rows: Ranking(rows.sql, score, f"{score} ASC", rows.known(score))


def _self_confidence(rows: Rows) -> Ranking:
    return Ranking(rows.sql, rows.p_t, "log_odds ASC")


def _adjusted(strategy: Strategy, score: str, order: str) -> Callable[[Rows], Ranking]:
    def ranking_of(rows: Rows) -> Ranking:
        _need_logits(rows, strategy)
        return Ranking(
            f"({rows.sql} JOIN {adjusted_scores(rows.view, rows.epoch)} USING (batch, row))",
            score,
            f"{order} ASC",
            suggested="adjusted_suggested",
            suggested_p="adjusted_suggested_p",
        )

    return ranking_of


def _need_logits(rows: Rows, strategy: Strategy) -> None:
    if not rows.view.snapshot.has_logits(rows.epoch):
        run = rows.view.snapshot.name
        msg = f"{strategy} needs the probabilities of all classes; the logits of this epoch are not stored in run {run}"
        raise InvalidRequestError(msg)


def _area_under_margin(rows: Rows) -> Ranking:
    source = f"({rows.sql} JOIN {area_under_margin(rows.view, rows.request.first)} USING (id))"
    return Ranking(source, "area_under_margin", "area_under_margin ASC", rows.known("area_under_margin"))


def suggestions_over_epochs(view: View, ids: str, first: int | None) -> str:
    """Subquery with the class that a queue of `area_under_margin` suggests: the wrong one that most epochs predicted.

    By the last epoch the model may have memorised the label. The columns are `id`, `suggested`, `suggested_epochs`
    (epochs that predicted it) and `num_epochs`.

    Args:
        view: The run.
        ids: Query of the ids of the examples.
        first: Number of the run's first epochs to use; None for all.
    """
    rows = f"(SELECT * FROM {view.stored()} WHERE epoch <= {literal(last_epoch(view, first))} AND id IN ({ids}))"
    wrong = f"SELECT id, prediction, count(DISTINCT epoch) AS n FROM {rows} WHERE prediction != target GROUP BY ALL"
    most_frequent = (
        f"SELECT id, arg_max(prediction, (n, -prediction)) AS suggested, max(n) AS suggested_epochs FROM ({wrong}) "
        "GROUP BY id"
    )
    return (
        "(SELECT id, suggested, coalesce(suggested_epochs, 0) AS suggested_epochs, num_epochs "
        f"FROM (SELECT id, count(DISTINCT epoch) AS num_epochs FROM {rows} GROUP BY id) "
        f"LEFT JOIN ({most_frequent}) USING (id))"
    )


def _ambiguous(rows: Rows) -> Ranking:
    return Ranking(rows.sql, "entropy", "entropy DESC", rows.known("entropy"))


def _semi_hard(rows: Rows) -> Ranking:
    # NaN, an unknown margin, is larger than any number.
    where = f"logit_margin > 0 AND logit_margin <= {literal(rows.request.margin)}"
    return Ranking(rows.sql, "logit_margin", "logit_margin ASC", where)


def _top_share(rows: Rows) -> Ranking:
    # The total is summed in the same order; otherwise its last digits would differ from query to query.
    ordered = "ORDER BY log_loss DESC, id, batch, row ROWS BETWEEN UNBOUNDED PRECEDING AND"
    running = f"""(SELECT *, sum(loss) OVER ({ordered} UNBOUNDED FOLLOWING) AS all_loss,
        coalesce(sum(loss) OVER ({ordered} 1 PRECEDING), 0) AS before FROM {rows.sql})"""
    return Ranking(running, "loss", "log_loss DESC", f"before < {literal(rows.request.share)} * all_loss")


def _random(rows: Rows) -> Ranking:
    # By a digest, a seed draws the same rows even after further rows were stored.
    drawn = f"md5({quoted(str(rows.request.seed))} || ':' || id)"
    return Ranking(f"(SELECT *, {drawn} AS drawn FROM {rows.sql})", "0.0", "drawn ASC")


def _suspected_errors(rows: Rows) -> Ranking:
    view, epoch = rows.view, rows.epoch
    if view.is_structured:
        # Previews of a queue repeat it, and it reads all elements several times.
        name = view.register("suspects", view.cached_table("unit suspects", epoch, lambda: unit_suspects(view, epoch)))
        suspects = name if rows.of_units else f"(SELECT DISTINCT batch, row FROM {name})"
        keys = "batch, row, unit" if rows.of_units else "batch, row"
        return Ranking(f"({rows.sql} JOIN {suspects} USING ({keys}))", rows.p_t, "log_odds ASC")
    _need_logits(rows, "suspected_errors")
    name = view.register("suspects", view.cached_table("suspects", epoch, lambda: _suspects(view, epoch)))
    source = f"({rows.sql} JOIN {name} USING (batch, row))"
    return Ranking(source, "p_t", "log_odds ASC", suggested="suspects_suggested", suggested_p="suspects_suggested_p")


def _suspects(view: View, epoch: int) -> pa.Table:
    """The rows that confident learning marks: batch, row, the class that it suggests, and its probability."""
    num_classes = view.snapshot.num_classes or 2
    counts = confident_learning(chunks_of(view, epoch), num_classes)
    kinds = {"batch": pa.string(), "row": pa.int32(), "suspects_suggested": pa.int32()}
    schema = pa.schema(kinds | {"suspects_suggested_p": pa.float64()})
    parts = [schema.empty_table()]
    for places, chunk in placed_chunks(view, epoch):
        mask, suggested = suspected(chunk, counts)
        marked = np.flatnonzero(mask)
        labels = suggested[marked]
        p = softmax(chunk.logits[marked])[np.arange(len(marked)), labels]
        columns = [places["batch"].take(marked), places["row"].take(marked), labels.astype(np.int32), p]
        parts.append(pa.table(columns, schema))
    return pa.concat_tables(parts)


def _consensus(rows: Rows, score: str) -> Ranking:
    """The ranking of the examples by a score of the epoch's consensus, lowest first."""
    table = run_consensus(rows.view, rows.epoch, rows.verdicts).table
    if score == "quality" and table[score].null_count == len(table):
        run = rows.view.snapshot.name
        msg = (
            f"consensus_quality ranks examples that annotators labelled, and run {run} has none: send annotations first"
        )
        raise InvalidRequestError(msg)
    columns = dict.fromkeys(("batch", "row", "consensus", "quality", score))
    name = rows.view.register("consensus", table.select([*columns]))
    # The model suggests a class for examples without annotations.
    suggested, suggested_p = (
        f"CASE WHEN consensus IS NULL THEN {of_model} WHEN consensus != target THEN {of_consensus} END"
        for of_model, of_consensus in ((SUGGESTED, "consensus"), (SUGGESTED_P, "quality"))
    )
    source = f"({rows.sql} JOIN {name} USING (batch, row))"
    return Ranking(source, score, f"{score} ASC", f"{score} IS NOT NULL", suggested, suggested_p)


_STRATEGIES: dict[Strategy, Callable[[Rows], Ranking]] = {
    "top_loss": _top_loss,
    "logit_margin": _lowest("logit_margin"),
    "area_under_margin": _area_under_margin,
    "self_confidence": _self_confidence,
    "normalized_margin": _lowest("normalized_margin"),
    "adjusted_margin": _adjusted("adjusted_margin", "adjusted_margin", "adjusted_margin"),
    # The log-odds order the examples as the probabilities do, also where these round to 0 or 1.
    "adjusted_self_confidence": _adjusted(
        "adjusted_self_confidence", "1 / (1 + exp(-adjusted_log_odds))", "adjusted_log_odds"
    ),
    "ambiguous": _ambiguous,
    "semi_hard": _semi_hard,
    "suspected_errors": _suspected_errors,
    "top_share": _top_share,
    "random": _random,
    "label_quality": _lowest("label_quality"),
    "consensus_quality": lambda rows: _consensus(rows, "quality"),
    "active_lab": lambda rows: _consensus(rows, "active_lab"),
    "active_lab_calibrated": lambda rows: _consensus(rows, "active_lab_calibrated"),
}
