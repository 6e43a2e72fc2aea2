"""Queues of structured runs: which strategies rank units, and the requests that fit them.

A unit is a wrong label, a span of wrong tokens, or a region of wrong pixels.
"""

from __future__ import annotations

from service.errors import InvalidRequestError
from service.mining.requests import Only, QueueRequest
from service.queries.view import SCORE_NAMES
from service.schema.faults import fault
from service.schema.replies.fields import Strategy
from service.schema.structure import Task

# The strategies that rank units unless the request says otherwise.
OF_UNITS: tuple[Strategy, ...] = ("top_loss", "self_confidence", "suspected_errors")
# The strategies of examples with one class.
OF_CLASSES: tuple[Strategy, ...] = (
    "adjusted_margin",
    "adjusted_self_confidence",
    "consensus_quality",
    "active_lab",
    "active_lab_calibrated",
)
# Scores of examples that units lack.
NOT_OF_UNITS = tuple(name for name in SCORE_NAMES if name not in ("loss", "cross_entropy", "p_t", "log_odds"))


def ranks_units(strategy: Strategy, request: QueueRequest, task: Task) -> bool:
    """True if the rows of a strategy are units."""
    return task != "classification" and strategy in OF_UNITS and request.units is not False


def counted_class(task: Task) -> str:
    """Column of the class that quotas count: of the task `multi_label` the label, else the target."""
    return "start[1]" if task == "multi_label" else "target"


def check_task(request: QueueRequest, task: Task) -> None:
    """Check that a request fits the task of the run.

    Raises:
        InvalidRequestError: It asks for units that the run or the strategy does not have, for quotas or conditions on
            the class of whole structured examples, or for scores that units do not have.
    """
    if task == "classification":
        if request.units:
            raise fault(InvalidRequestError, "the examples of this run have one class, and no units", "units")
        if "label_quality" in request.parts:
            msg = "label_quality is for runs of the tasks multi_label, tokens and masks"
            raise fault(InvalidRequestError, msg, "strategy" if request.mix is None else "mix")
        return
    if refused := [strategy for strategy in request.parts if strategy in OF_CLASSES]:
        msg = f"{refused[0]} is for runs of the task classification; this run has the task {task}"
        raise fault(InvalidRequestError, msg, "strategy" if request.mix is None else "mix")
    units = [strategy for strategy in request.parts if ranks_units(strategy, request, task)]
    others = [strategy for strategy in request.parts if strategy not in units]
    if request.units and (not units or set(others) - {"random"}):
        msg = f"{others[0]} ranks whole examples; units are ranked by {', '.join(OF_UNITS)}"
        raise fault(InvalidRequestError, msg, "units")
    if others:
        _check_whole(request, others[0])
    if units and request.only is not None:
        _check_conditions(request.only, units[0])


def _check_whole(request: QueueRequest, strategy: Strategy) -> None:
    """Refuse what needs the class of a row if the rows of a strategy are whole examples, which have several."""
    only = request.only or Only()
    needing = {
        ("per_class",): request.per_class is not None,
        ("min_per_class",): request.min_per_class > 0,
        ("only", "target"): only.target is not None,
        ("only", "prediction"): only.prediction is not None,
    }
    for place, is_set in needing.items():
        if is_set:
            msg = f"{'.'.join(place)} needs rows with one class, but the rows of {strategy} are whole examples"
            raise fault(InvalidRequestError, msg, *place)


def _check_conditions(only: Only, strategy: Strategy) -> None:
    if only.correct is not None:
        msg = f"the rows of {strategy} are units, which are all predicted as another class than their target"
        raise fault(InvalidRequestError, msg, "only", "correct")
    for name in only.ranges:
        if name in NOT_OF_UNITS:
            msg = f"the rows of {strategy} are units, which have no {name}"
            raise fault(InvalidRequestError, msg, "only", "ranges", name)
