"""The strategies of queues: the rows of each, their order, and the suggested class of each row.

Every order ends with id, batch and row, so it is total and reproducible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import softmax
from service.diagnostics.dynamics import area_under_margin, last_epoch
from service.diagnostics.label_errors import confident_learning, suspected
from service.diagnostics.rows import chunks_of, placed_chunks
from service.errors import InvalidRequestError
from service.mining.requests import QueueRequest
from service.queries.sql import literal, quoted
from service.queries.view import View
from service.queries.weighting import Weighting
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
    """

    source: str
    score: str
    order: str
    where: str = "true"
    suggested: str = SUGGESTED
    suggested_p: str = SUGGESTED_P

    def sql(self, condition: str, limit: int | None) -> str:
        """A query of the candidates that meet a further condition, with their `place` in the ranking, from 1.

        Args:
            condition: The condition.
            limit: Number of candidates; None for all.
        """
        first = "" if limit is None else f"LIMIT {literal(limit)}"
        # Without an order of its own the window numbers the rows as they come; it would hold all of them otherwise.
        return f"""SELECT *, row_number() OVER () AS place FROM (
            SELECT id, batch, row, target, ({self.score})::DOUBLE AS score, {self.suggested} AS suggested,
            ({self.suggested_p})::DOUBLE AS suggested_p FROM {self.source} WHERE {self.where} AND {condition}
            ORDER BY {self.order}, id, batch, row {first})"""


def ranking(strategy: Strategy, view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    """The ranking of the rows of an epoch by a strategy.

    Raises:
        InvalidRequestError: The strategy is `suspected_errors`, but the run stores no logits.
    """
    return _STRATEGIES[strategy](view, weighting, epoch, request)


def _top_loss(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    return Ranking(view.scored(weighting, epoch), "loss", "log_loss DESC")


def _lowest(score: str) -> Callable[[View, Weighting, int, QueueRequest], Ranking]:
    def lowest(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
        return Ranking(view.scored(weighting, epoch), score, f"{'log_odds' if score == 'p_t' else score} ASC")

    return lowest


def _area_under_margin(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    source = f"({view.scored(weighting, epoch)} JOIN {area_under_margin(view, request.first)} USING (id))"
    return Ranking(source, "area_under_margin", "area_under_margin ASC")


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


def _ambiguous(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    return Ranking(view.scored(weighting, epoch), "entropy", "entropy DESC")


def _semi_hard(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    where = f"logit_margin > 0 AND logit_margin <= {literal(request.margin)}"
    return Ranking(view.scored(weighting, epoch), "logit_margin", "logit_margin ASC", where)


def _top_share(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    # The total is summed in the same order; otherwise its last digits would differ from query to query.
    ordered = "ORDER BY log_loss DESC, id, batch, row ROWS BETWEEN UNBOUNDED PRECEDING AND"
    running = f"""(SELECT *, sum(loss) OVER ({ordered} UNBOUNDED FOLLOWING) AS all_loss,
        coalesce(sum(loss) OVER ({ordered} 1 PRECEDING), 0) AS before FROM {view.scored(weighting, epoch)})"""
    return Ranking(running, "loss", "log_loss DESC", f"before < {literal(request.share)} * all_loss")


def _random(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    # By a digest, a seed draws the same rows even after further rows were stored.
    drawn = f"md5({quoted(str(request.seed))} || ':' || id)"
    return Ranking(f"(SELECT *, {drawn} AS drawn FROM {view.scored(weighting, epoch)})", "0.0", "drawn ASC")


def _suspected_errors(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    if not view.snapshot.has_logits(epoch):
        msg = "suspected_errors needs the probabilities of all classes; the logits of this epoch are not stored"
        raise InvalidRequestError(msg)
    name = f"suspects_{epoch}"
    view.cursor.register(name, _suspects(view, epoch))
    source = f"({view.scored(weighting, epoch)} JOIN {name} USING (batch, row))"
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


_STRATEGIES: dict[Strategy, Callable[[View, Weighting, int, QueueRequest], Ranking]] = {
    "top_loss": _top_loss,
    "logit_margin": _lowest("logit_margin"),
    "area_under_margin": _area_under_margin,
    "self_confidence": _lowest("p_t"),
    "normalized_margin": _lowest("normalized_margin"),
    "ambiguous": _ambiguous,
    "semi_hard": _semi_hard,
    "suspected_errors": _suspected_errors,
    "top_share": _top_share,
    "random": _random,
}
