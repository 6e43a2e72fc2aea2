"""The reason why a row is in a queue, as one sentence with its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from service.mining.requests import OF_CONSENSUS
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueRow


def reason(row: QueueRow, class_names: Sequence[str] | None, num_runs: int = 1) -> str:
    """The sentence for a row of a queue.

    Args:
        row: The row.
        class_names: Names of the classes; None to call them by their numbers.
        num_runs: Number of runs whose ranks are averaged.
    """
    label, p_t = class_text(row["target"], class_names), percent(row["p_t"])
    suggested = None if row["suggested"] is None else class_text(row["suggested"], class_names)
    if row["strategy"] in OF_CONSENSUS:
        # Annotators and model suggest a class together.
        likely = f"{label} is likeliest" if suggested is None else f"{suggested} is likelier than {label}"
        model = f"{likely}, to which the model gives {p_t}"
    elif suggested is None:
        model = f"the model agrees with {label} ({p_t})"
    elif "suggested_epochs" in row:
        epochs = f"{row['suggested_epochs']} of {row['num_epochs']} epochs"
        model = f"the model called it {suggested} in {epochs}, and gives {label} {p_t} now"
    else:
        model = f"the model gives {label} {p_t} and {suggested} {percent(row['suggested_p'])}"
    return f"{mean_rank(row['score'], num_runs) or _BY_STRATEGY[row['strategy']](row)}: {model}."


def mean_rank(score: float | None, num_runs: int) -> str | None:
    """The mean rank in words; None for a single run."""
    return None if num_runs == 1 else f"Rank {score or 0:,.8g} on average over {num_runs} runs"


def class_text(label: int | None, class_names: Sequence[str] | None) -> str:
    """The name of a class, or its number."""
    return f"class {label}" if class_names is None or label is None else class_names[label]


def percent(share: float | None) -> str:
    """A share in percent, never rounded to 0 or 100 %."""
    percent = 100 * (share or 0.0)
    if 0 < percent < 0.01:
        return "under 0.01 %"
    if 99.99 < percent < 100:
        return "over 99.99 %"
    return f"{percent:.2f} %" if percent < 1 or percent > 99 else f"{percent:.1f} %"


def _loss(row: QueueRow) -> str:
    return f"Loss {row['loss']:.4g}, {percent(row['share'])} of the epoch's whole loss"


def _margin(row: QueueRow) -> str:
    # JSON has no infinity: the margin is null if all other classes are masked.
    margin = math.inf if row["logit_margin"] is None else row["logit_margin"]
    side = "behind" if margin <= 0 else "before"
    return f"The label's logit lies {abs(margin):.4g} {side} the best other one"


def _adjusted_margin(row: QueueRow) -> str:
    margin = math.inf if row["score"] is None else row["score"]
    side = "behind" if margin <= 0 else "before"
    return (
        f"Adjusted for the frequency of the classes, the label's logit lies {abs(margin):.4g} {side} the best other one"
    )


# The strategy `label_quality` is for structured examples, whose reasons are in `unit_reasons`.
_BY_STRATEGY: dict[Strategy, Callable[[QueueRow], str]] = {
    "top_loss": _loss,
    "top_share": _loss,
    "logit_margin": _margin,
    "semi_hard": lambda row: f"Right, by a margin of only {row['logit_margin']:.4g}",
    "area_under_margin": lambda row: f"Over the epochs the label's logit margin was {row['score']:.4g} on average",
    "self_confidence": lambda row: f"The label has a probability of only {percent(row['p_t'])}",
    "normalized_margin": lambda row: f"Normalised margin {row['normalized_margin']:.4g} (0 worst, 1 best)",
    "adjusted_margin": _adjusted_margin,
    "adjusted_self_confidence": lambda row: (
        f"Adjusted for the frequency of the classes, the label has a probability of only {percent(row['score'])}"
    ),
    "ambiguous": lambda row: f"The model is undecided, entropy {row['entropy']:.4g} nats",
    "suspected_errors": lambda row: "Confident learning counts the label as an error",
    "random": lambda row: "Drawn at random, as a control",
    "consensus_quality": lambda row: (
        f"The consensus of the annotators has a probability of only {percent(row['score'])}"
    ),
    "active_lab": lambda row: f"One more label tells much here, ActiveLab score {row['score']:.4g}",
    "active_lab_calibrated": lambda row: (
        f"One more label tells much here, calibrated ActiveLab score {row['score']:.4g}"
    ),
}
