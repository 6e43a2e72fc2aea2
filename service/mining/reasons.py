"""Why a row is in a queue: one plain sentence with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def reason(row: Mapping[str, Any], class_names: Sequence[str] | None) -> str:
    """The sentence for a row of a queue, by its `strategy`."""
    given, p_t = _name(row["target"], class_names), _percent(row["p_t"])
    suggested = None if row["suggested"] is None else _name(row["suggested"], class_names)
    if suggested is None:
        model = f"the model agrees with {given} ({p_t})"
    elif "suggested_epochs" in row:
        epochs = f"{row['suggested_epochs']} of {row['num_epochs']} epochs"
        model = f"the model called it {suggested} in {epochs}, and gives {given} {p_t} now"
    else:
        model = f"the model gives {given} {p_t} and {suggested} {_percent(row['suggested_p'])}"
    return f"{_BY_STRATEGY[row['strategy']](row)}: {model}."


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return f"class {label}" if class_names is None else class_names[label]


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.01:
        return "under 0.01 %"
    if 99.99 < percent < 100:
        return "over 99.99 %"
    return f"{percent:.2f} %" if percent < 1 or percent > 99 else f"{percent:.1f} %"


def _loss(row: Mapping[str, Any]) -> str:
    return f"Loss {row['loss']:.4g}, {_percent(row['share'])} of the epoch's whole loss"


def _margin(row: Mapping[str, Any]) -> str:
    side = "behind" if row["logit_margin"] <= 0 else "before"
    return f"The label's logit lies {abs(row['logit_margin']):.4g} {side} the best other one"


_BY_STRATEGY: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "top_loss": _loss,
    "top_share": _loss,
    "logit_margin": _margin,
    "semi_hard": lambda row: f"Right, by a margin of only {row['logit_margin']:.4g}",
    "area_under_margin": lambda row: f"Over the epochs the label's logit margin was {row['score']:.4g} on average",
    "self_confidence": lambda row: f"The label has a probability of only {_percent(row['p_t'])}",
    "normalized_margin": lambda row: f"Normalised margin {row['normalized_margin']:.4g} (0 worst, 1 best)",
    "ambiguous": lambda row: f"The model is undecided, entropy {row['entropy']:.4g} nats",
    "suspected_errors": lambda row: "Confident learning counts the label as an error",
    "random": lambda row: "Drawn at random, as a control",
}
