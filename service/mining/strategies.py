"""The strategies of queues: the rows of each, their order, and the suggested class of each row.

Every order ends with id, batch and row, so it is total and reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueRow

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

    def sql(self, condition: str, limit: int, *, of_each_class: bool) -> str:
        """A query of the first candidates that meet a further condition, in order.

        Args:
            condition: The condition.
            limit: Number of candidates.
            of_each_class: True for `limit` candidates of each class, with their `place` in the whole ranking, from 1.
        """
        order = f"{self.order}, id, batch, row"
        first, place = f"ORDER BY {order} LIMIT {literal(limit)}", ""
        if of_each_class:
            first = (
                f"QUALIFY row_number() OVER (PARTITION BY target ORDER BY {order}) <= {literal(limit)} ORDER BY {order}"
            )
            place = f", row_number() OVER (ORDER BY {order}) AS place"
        return f"""SELECT id, batch, row, epoch, target, prediction, {", ".join(SCORE_NAMES)}, attributes,
            ({self.score})::DOUBLE AS score, {self.suggested} AS suggested, {self.suggested_p} AS suggested_p{place}
            FROM {self.source} WHERE {self.where} AND {condition} {first}"""


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


def suggest_over_epochs(view: View, rows: Sequence[QueueRow], first: int | None) -> None:
    """Set the suggested class of rows of `area_under_margin`: the wrong class that most epochs predicted.

    By the last epoch the model may have memorised the label. Sets `suggested`, `suggested_epochs` (epochs that
    predicted it), `num_epochs`, and `suggested_p` to null unless the last epoch predicted the same class.

    Args:
        view: The run.
        rows: Rows of a queue; they are changed.
        first: Number of the run's first epochs to use; None for all.
    """
    ids = [row["id"] for row in rows]
    if not ids:
        return
    condition = f"epoch <= {literal(last_epoch(view, first))} AND id IN (SELECT unnest(?::VARCHAR[]))"
    wrong_predictions = view.rows(
        f"SELECT id, prediction, count(DISTINCT epoch) AS n FROM {view.stored()} "
        f"WHERE {condition} AND prediction != target GROUP BY ALL ORDER BY n, prediction DESC",
        [ids],
    )
    most_frequent = {row["id"]: (row["prediction"], row["n"]) for row in wrong_predictions}
    sql = f"SELECT id, count(DISTINCT epoch) AS n FROM {view.stored()} WHERE {condition} GROUP BY id"
    num_epochs = {row["id"]: row["n"] for row in view.rows(sql, [ids])}
    for row in rows:
        suggested, epochs = most_frequent.get(row["id"], (None, 0))
        if suggested != row["suggested"]:
            row["suggested"], row["suggested_p"] = suggested, None
        row["suggested_epochs"], row["num_epochs"] = epochs, num_epochs[row["id"]]


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
    if not view.snapshot.description.store_logits:
        raise InvalidRequestError("suspected_errors needs the probabilities of all classes; the run stores no logits")
    name = f"suspects_{epoch}"
    view.cursor.register(name, _suspects(view, epoch))
    source = f"({view.scored(weighting, epoch)} JOIN {name} USING (batch, row))"
    return Ranking(source, "p_t", "log_odds ASC", suggested="suspects_suggested", suggested_p="suspects_suggested_p")


def _suspects(view: View, epoch: int) -> pa.Table:
    """The rows that confident learning marks: batch, row, the class that it suggests, and its probability."""
    num_classes = view.snapshot.num_classes or 2
    counts = confident_learning(chunks_of(view, epoch), num_classes)
    columns: dict[str, list[object]] = {"batch": [], "row": [], "suspects_suggested": [], "suspects_suggested_p": []}
    for places, chunk in placed_chunks(view, epoch):
        mask, suggested = suspected(chunk, counts)
        marked = np.flatnonzero(mask)
        columns["batch"] += places["batch"].take(marked).to_pylist()
        columns["row"] += places["row"].take(marked).to_pylist()
        columns["suspects_suggested"] += suggested[marked].tolist()
        columns["suspects_suggested_p"] += softmax(chunk.logits[marked])[
            np.arange(len(marked)), suggested[marked]
        ].tolist()
    types = (pa.string(), pa.int32(), pa.int32(), pa.float64())
    return pa.table({name: pa.array(values, kind) for (name, values), kind in zip(columns.items(), types, strict=True)})


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
