"""The strategy `recommended`: the ranking that fits what a run has, and what its verdicts say so far.

The rules were chosen by `benchmarks/rankings`, whose results are in docs/rankings.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from service.mining.queue_table import GOLD, QueueTable
from service.mining.requests import QueueRequest
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.runs.units import UnitKey
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import Chosen

# Verdicts of ok or wrong that two strategies need each, and the difference of their shares of wrong rows in standard
# errors, before the better one ranks all rows.
MIN_VERDICTS, SURE = 5, 1.0


class Found(NamedTuple):
    """Verdicts on the rows of a strategy: the number of wrong ones, and of wrong and ok ones."""

    wrong: int
    judged: int

    @property
    def share(self) -> float:
        """Share of wrong among the judged rows; at least one is judged."""
        return self.wrong / self.judged


def recommended(
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    epoch: int,
    verdicts: Verdicts,
    queues: Iterable[QueueTable],
    others: Sequence[View] = (),
) -> Chosen:
    """Choose the strategy, or the mix of two that the verdicts have to decide between.

    Args:
        view: The run.
        request: The request; in a structured run with `units` false if the rows cannot be units.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        verdicts: Current verdicts of the run.
        queues: The queues of the run.
        others: Further runs over which ranks are averaged.
    """
    if view.is_structured:
        return _of_elements(request, weighting)
    margin, why = _margin(view, request)
    epochs = [(view.snapshot, epoch), *((other.snapshot, other.snapshot.epoch()) for other in others)]
    for snapshot, last in epochs:
        if not snapshot.has_logits(last):
            msg = f"Epoch {last} of run {snapshot.name} stores no logits, which adjusted_margin needs."
            return _chosen(margin, f"{why} {msg}")
    pair: tuple[Strategy, Strategy] = (margin, "adjusted_margin")
    found = compare_verdicts(queues, verdicts, pair)
    better = better_of(found)
    if better is not None:
        return _chosen(pair[better], f"In queues with both, {_counts(pair, found)}.")
    return _undecided(pair, why, found)


def _margin(view: View, request: QueueRequest) -> tuple[Strategy, str]:
    """The margin for the epochs of a run, and the reason."""
    number = len(view.snapshot.epochs[: request.first])
    if number > 1:
        why = f"The run has {number} epochs, and margins averaged over them find more wrong labels than the last ones."
        return "area_under_margin", why
    return "logit_margin", "The logit margin of a single epoch does not depend on how sure the model is."


def _undecided(pair: tuple[Strategy, Strategy], why: str, found: tuple[Found, Found]) -> Chosen:
    so_far = f" So far {_counts(pair, found)}." if all(one.judged for one in found) else ""
    return {
        "strategy": "mix",
        "mix": dict.fromkeys(pair, 0.5),
        "why": f"{why} If some classes have more wrong labels than others, adjusted_margin finds more. Only verdicts "
        f"can tell: the two take turns in this queue, and once at least {MIN_VERDICTS} rows of each are reviewed and "
        f"one is clearly better, the next queue takes that one.{so_far}",
    }


def _counts(pair: tuple[Strategy, Strategy], found: tuple[Found, Found]) -> str:
    """The verdicts on the rows of two strategies in words."""
    one, other = found
    first = f"{one.wrong} of {one.judged} reviewed rows of {pair[0]} are wrong"
    return f"{first}, and {other.wrong} of {other.judged} of {pair[1]}"


def _of_elements(request: QueueRequest, weighting: Weighting) -> Chosen:
    """The strategy for labels, tokens or masks."""
    if request.units is False:
        return _chosen("label_quality", "Whole examples are ranked by their worst elements.")
    if weighting.alpha is not None:
        why = "With class weights the loss ranks by class first; the probability of the given class does not."
        return _chosen("self_confidence", why)
    return _chosen("top_loss", "The summed loss of a wrong label, span or region is largest where it matters most.")


def _chosen(strategy: Strategy, why: str) -> Chosen:
    return {"strategy": strategy, "mix": None, "why": why}


def compare_verdicts(
    queues: Iterable[QueueTable], verdicts: Verdicts, pair: tuple[Strategy, Strategy]
) -> tuple[Found, Found]:
    """Count the verdicts on the rows of two strategies in the queues that have both.

    A queue of one strategy goes deeper into its ranking than a mix, to rows that are less suspicious.
    """
    # A row may be in several queues.
    judged: dict[Strategy, dict[UnitKey, bool]] = {strategy: {} for strategy in pair}
    with_both = [queue for queue in queues if set(pair) <= queue.expected_errors.keys()]
    ids = pa.array([key.id for key in verdicts] if with_both else [], pa.string())
    for queue in with_both:
        # Most rows have no verdict: Arrow leaves those of other examples out.
        some = queue.of_ids(ids)
        # Gold rows were chosen for their verdicts.
        if (gold := some.marks(GOLD)) is not None:
            some = some.with_rows(some.rows.filter(pa.array(~gold)))
        for key, strategy in zip(some.unit_keys(), some.rows["strategy"].to_pylist(), strict=True):
            standing = verdicts.get(key)
            if strategy in judged and standing is not None and standing.verdict in ("ok", "wrong"):
                judged[strategy][key] = standing.verdict == "wrong"
    first, second = (Found(sum(words.values()), len(words)) for words in judged.values())
    return first, second


def better_of(found: tuple[Found, Found]) -> int | None:
    """The number of the strategy with clearly more wrong rows among the judged ones; None if neither has."""
    if min(one.judged for one in found) < MIN_VERDICTS:
        return None
    wrong, judged = (sum(counts) for counts in zip(*found, strict=True))
    share = wrong / judged
    error = math.sqrt(share * (1 - share) * sum(1 / one.judged for one in found))
    difference = found[0].share - found[1].share
    if abs(difference) <= SURE * error or not difference:
        return None
    return 0 if difference > 0 else 1
