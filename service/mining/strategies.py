"""The strategies: which rows, in which order, and what each would be called instead.

Every order ends with id, batch and row, so it is total and the same on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import softmax
from service.diagnostics.dynamics import area_under_margin, last_epoch
from service.diagnostics.label_errors import confident_learning, suspected
from service.diagnostics.rows import chunks_of, placed_chunks
from service.errors import InvalidRequestError
from service.mining.requests import QueueRequest, Strategy
from service.runs.queries import SCORE_NAMES, View, Weighting, quoted

SUGGESTED = "CASE WHEN prediction != target THEN prediction END"
# normalized_margin is (p_t - p_other + 1) / 2 with the largest other probability, that of the prediction here.
SUGGESTED_P = "CASE WHEN prediction != target THEN least(greatest(p_t + 1 - 2 * normalized_margin, 0), 1) END"


@dataclass(frozen=True)
class Ranking:
    """A strategy as SQL.

    Args:
        source: A subquery with the rows and their scores.
        score: The strategy's number.
        order: What comes first, before the ties.
        where: Which rows it may return.
        suggested: The class that the model would give instead, or null.
        suggested_p: Its probability.
    """

    source: str
    score: str
    order: str
    where: str = "true"
    suggested: str = SUGGESTED
    suggested_p: str = SUGGESTED_P

    def sql(self, condition: str, limit: int, *, of_each_class: bool) -> str:
        """The first `limit` candidates that fulfil a further condition, of all or of each class, in their order.

        Of each class, they have their `place` among all that fulfil it, from 1.
        """
        order = f"{self.order}, id, batch, row"
        first, place = f"ORDER BY {order} LIMIT {limit}", ""
        if of_each_class:
            first = f"QUALIFY row_number() OVER (PARTITION BY target ORDER BY {order}) <= {limit} ORDER BY {order}"
            place = f", row_number() OVER (ORDER BY {order}) AS place"
        return f"""SELECT id, batch, row, epoch, target, prediction, {", ".join(SCORE_NAMES)}, attributes,
            ({self.score})::DOUBLE AS score, {self.suggested} AS suggested, {self.suggested_p} AS suggested_p{place}
            FROM {self.source} WHERE {self.where} AND {condition} {first}"""


def ranking(strategy: Strategy, view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    """A strategy over the rows of an epoch.

    Raises:
        InvalidRequestError: `suspected_errors` of a run that keeps no logits.
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


def suggest_over_epochs(view: View, rows: Sequence[dict[str, Any]], first: int | None) -> None:
    """Give rows of `area_under_margin` the class that the model called them most often instead of their label.

    In the last epoch it may have learned the label by heart. `suggested_epochs` is in how many of `num_epochs`; the
    probability is that of the last epoch, null where it is that of another class.

    Args:
        view: Of the run.
        rows: Of a queue.
        first: Only that many of the run's first epochs.
    """
    ids = [row["id"] for row in rows]
    if not ids:
        return
    condition = f"epoch <= {last_epoch(view, first)} AND id IN (SELECT unnest(?::VARCHAR[]))"
    called = view.rows(
        f"SELECT id, prediction, count(DISTINCT epoch) AS n FROM {view.stored()} "
        f"WHERE {condition} AND prediction != target GROUP BY ALL ORDER BY n, prediction DESC",
        [ids],
    )
    most = {row["id"]: (row["prediction"], row["n"]) for row in called}
    counted = view.rows(
        f"SELECT id, count(DISTINCT epoch) AS n FROM {view.stored()} WHERE {condition} GROUP BY id", [ids]
    )
    number = {row["id"]: row["n"] for row in counted}
    for row in rows:
        suggested, epochs = most.get(row["id"], (None, 0))
        if suggested != row["suggested"]:
            row["suggested"], row["suggested_p"] = suggested, None
        row["suggested_epochs"], row["num_epochs"] = epochs, number[row["id"]]


def _ambiguous(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    return Ranking(view.scored(weighting, epoch), "entropy", "entropy DESC")


def _semi_hard(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    where = f"logit_margin > 0 AND logit_margin <= {request.margin!r}"
    return Ranking(view.scored(weighting, epoch), "logit_margin", "logit_margin ASC", where)


def _top_share(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    # The whole loss in the same order too: in another one its last digits would be others on every run.
    ordered = "ORDER BY log_loss DESC, id, batch, row ROWS BETWEEN UNBOUNDED PRECEDING AND"
    running = f"""(SELECT *, sum(loss) OVER ({ordered} UNBOUNDED FOLLOWING) AS all_loss,
        coalesce(sum(loss) OVER ({ordered} 1 PRECEDING), 0) AS before FROM {view.scored(weighting, epoch)})"""
    return Ranking(running, "loss", "log_loss DESC", f"before < {request.share!r} * all_loss")


def _random(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    # A digest and no generator: the same draw for a seed, whatever else the run has got meanwhile.
    drawn = f"md5({quoted(str(request.seed))} || ':' || id)"
    return Ranking(f"(SELECT *, {drawn} AS drawn FROM {view.scored(weighting, epoch)})", "0.0", "drawn ASC")


def _suspected_errors(view: View, weighting: Weighting, epoch: int, request: QueueRequest) -> Ranking:
    if not view.snapshot.description.store_logits:
        raise InvalidRequestError("suspected_errors needs the probabilities of all classes; the run keeps no logits")
    name = f"suspects_{epoch}"
    view.cursor.register(name, _suspects(view, epoch))
    source = f"({view.scored(weighting, epoch)} JOIN {name} USING (batch, row))"
    return Ranking(source, "p_t", "log_odds ASC", suggested="suspects_suggested", suggested_p="suspects_suggested_p")


def _suspects(view: View, epoch: int) -> pa.Table:
    """The rows that confident learning marks: their place, the class it would give, and that class's probability."""
    num_classes = view.snapshot.num_classes or 2
    found = confident_learning(chunks_of(view, epoch), num_classes)
    columns: dict[str, list[Any]] = {"batch": [], "row": [], "suspects_suggested": [], "suspects_suggested_p": []}
    for places, chunk in placed_chunks(view, epoch):
        mask, suggested = suspected(chunk, found)
        marked = np.flatnonzero(mask)
        columns["batch"] += places["batch"].take(marked).to_pylist()
        columns["row"] += places["row"].take(marked).to_pylist()
        columns["suspects_suggested"] += suggested[marked].tolist()
        columns["suspects_suggested_p"] += softmax(chunk.logits[marked])[
            np.arange(len(marked)), suggested[marked]
        ].tolist()
    types = (pa.string(), pa.int32(), pa.int32(), pa.float64())
    return pa.table({name: pa.array(values, kind) for (name, values), kind in zip(columns.items(), types, strict=True)})


_STRATEGIES: dict[str, Callable[[View, Weighting, int, QueueRequest], Ranking]] = {
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
