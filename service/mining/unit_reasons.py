"""The reason why a row of a structured run is in a queue, as one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.mining.reasons import class_text, mean_rank, percent
from service.schema.replies.fields import Strategy
from service.schema.structure import Task

# A row of a queue with `of_example`, its share of the loss of its example, and `num_wrong`, the wrong elements of that.
Row = Mapping[str, Any]

ELEMENTS: dict[Task, str] = {"multi_label": "labels", "tokens": "tokens", "masks": "elements"}
_BY_AXES = {2: "pixel", 3: "voxel"}


def unit_reason(row: Row, task: Task, class_names: Sequence[str] | None) -> str:
    """The sentence for a unit."""
    given, suggested = (_class(row[name], task, class_names) for name in ("target", "suggested"))
    p = "" if row["suggested_p"] is None else f" with {percent(row['suggested_p'])}"
    return f"{_place(row, task, class_names)}: given {given}, the model says {suggested}{p}; {_score(row, task)}."


def example_reason(row: Row, task: Task, num_runs: int = 1) -> str:
    """The sentence for a whole example, by its ranks in `num_runs` runs."""
    number, wrong, elements = row["num_elements"], row["num_wrong"], ELEMENTS[task]
    if wrong is None:
        model = "it was sent as a histogram, without predictions"
    elif wrong:
        model = f"the model differs in {wrong} of {number} {elements}"
    else:
        model = f"the model agrees in all {elements}"
    return f"{mean_rank(row['score'], num_runs) or _WHOLE[row['strategy']](row, elements)}: {model}."


def _class(label: int, task: Task, class_names: Sequence[str] | None) -> str:
    if task == "multi_label":
        return "present" if label else "absent"
    return class_text(label, class_names)


def _place(row: Row, task: Task, class_names: Sequence[str] | None) -> str:
    start, stop = row["box"]
    if task == "multi_label":
        return f"Label {start[0] if class_names is None else class_names[start[0]]}"
    if task == "tokens":
        return f"Token {start[0]}" if stop[0] - start[0] == 1 else f"Tokens {start[0]} to {stop[0] - 1}"
    number, element = row["num_elements"], _BY_AXES.get(len(start), "element")
    return f"Region of {number} {element}{'' if number == 1 else 's'}"


def _score(row: Row, task: Task) -> str:
    strategy: Strategy = row["strategy"]
    if strategy == "suspected_errors":
        return "confident learning counts it as an error"
    if strategy == "self_confidence":
        return f"its lowest probability of a given class is {percent(row['score'])}"
    example = "image" if task == "masks" and len(row["box"][0]) == 2 else "example"
    return f"focal loss {row['loss']:.4g}, {percent(row['of_example'])} of the {example}'s"


def _loss(row: Row, elements: str) -> str:
    return f"Focal loss {row['loss']:.4g}, {percent(row['share'])} of the epoch's whole loss"


_WHOLE: dict[Strategy, Callable[[Row, str], str]] = {
    "top_loss": _loss,
    "top_share": _loss,
    "logit_margin": lambda row, elements: f"The lowest logit margin of its {elements} is {row['score']:.4g}",
    "semi_hard": lambda row, elements: f"Right, but the lowest margin of its {elements} is only {row['score']:.4g}",
    "area_under_margin": lambda row, elements: (
        f"Over the epochs the lowest logit margin of its {elements} was {row['score']:.4g} on average"
    ),
    "self_confidence": lambda row, elements: (
        f"The least probable of its {elements} has a probability of only {percent(row['score'])}"
    ),
    "normalized_margin": lambda row, elements: (
        f"The lowest normalised margin of its {elements} is {row['score']:.4g} (0 worst, 1 best)"
    ),
    "ambiguous": lambda row, elements: f"The model is undecided, mean entropy {row['score']:.4g} nats",
    "suspected_errors": lambda row, elements: f"Confident learning counts some of its {elements} as errors",
    "random": lambda row, elements: "Drawn at random, as a control",
    "label_quality": lambda row, elements: f"Label quality {row['score']:.4g} (0 worst, 1 best)",
}
