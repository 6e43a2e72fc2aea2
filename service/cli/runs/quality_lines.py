"""Sentences about the wrong labels that are left, and about the gain, for commands and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from service.cli.console import number, percent

if TYPE_CHECKING:
    from service.schema.replies.fields import Estimate
    from service.schema.replies.gain import Gain, GainUnderLabels, Metrics
    from service.schema.replies.remaining import NextRows, Remaining

# A name and a text.
Line = tuple[str, str]


def remaining_lines(remaining: Remaining) -> list[Line]:
    """Lines about the wrong labels that are left; none for a run without queues and verdicts."""
    if remaining["next"] is None and not remaining["num_judged"]:
        return []
    lines = [("labels left", remaining["message"].removesuffix("."))]
    if remaining["next"] is not None:
        lines.append(("next rows", _describe_next(remaining["next"])))
    return lines


def _describe_next(rows: NextRows) -> str:
    if rows["status"] == "no_open_rows":
        return f"queue {rows['queue']} has a verdict on every row"
    if rows["status"] == "too_few_verdicts":
        return f"queue {rows['queue']} has {rows['num_judged']} verdicts of ok or wrong, too few for a prediction"
    found = "; ".join(
        f"the next {one['rows']} will find about {one['expected']:.0f} [{one['low']}, {one['high']}]"
        for one in rows["predictions"]
    )
    return f"queue {rows['queue']}: {found} wrong labels"


def change_lines(gain: Gain) -> list[Line]:
    """Lines about the effect of the corrected labels on one model; none without a corrected label."""
    if not gain["num_corrected"]:
        return []
    metrics = gain["given"]["after"], gain["corrected"]["after"], gain["change_after"]
    return [("corrected labels", f"{gain['num_corrected']} of {gain['num_compared']}: {_changes(*metrics)}")]


def gain_lines(gain: Gain) -> list[Line]:
    """Lines about two models under the given labels, and under the corrected ones if there are any."""
    if not gain["num_compared"]:
        return []
    lines = [("given", _describe_gain(gain["given"]))]
    if gain["num_corrected"]:
        lines.append(("corrected", f"{gain['num_corrected']} labels: {_describe_gain(gain['corrected'])}"))
    return lines + [("note", note) for note in gain["notes"]]


def _describe_gain(labels: GainUnderLabels) -> str:
    test = labels["mcnemar"]
    changes = _changes(labels["before"], labels["after"], labels["difference"])
    return f"{changes}; McNemar {test['only_before']} against {test['only_after']}, p {number(test['p'], 3)}"


def _changes(before: Metrics, after: Metrics, difference: Metrics) -> str:
    parts = [
        _change("accuracy", before["accuracy"], after["accuracy"], difference["accuracy"], percent),
        _change("loss", before["loss"], after["loss"], difference["loss"], number),
        _change("calibration error", before["ece"], after["ece"], difference["ece"], percent),
    ]
    return ", ".join(part for part in parts if part)


def _change(
    name: str, before: Estimate, after: Estimate, difference: Estimate, text: Callable[[float | None], str]
) -> str:
    if difference["value"] is None:
        return ""
    signed = [f"{'-' if value < 0 else '+'}{text(abs(value))}" for value in _ends(difference)]
    return f"{name} {text(before['value'])} -> {text(after['value'])} ({signed[0]} [{signed[1]}, {signed[2]}])"


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    value = estimate["value"] or 0.0
    low, high = estimate["low"], estimate["high"]
    return value, value if low is None else low, value if high is None else high
