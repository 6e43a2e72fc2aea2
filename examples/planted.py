"""Structured examples with planted errors of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.schema.structure import Task

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Planted:
    """Examples whose labels were changed in known places, and logits of models that were not trained on them.

    Args:
        task: Task of the run that they make.
        what: Description for people.
        logits: As a run of the task takes them.
        targets: The given labels, of which some are wrong.
        true: The labels before that, of the same shape.
        class_names: A name for each class, of the task `multi_label` for each label.
        attributes: Attributes of the examples.
        offsets: (N + 1,) first token of each sentence; of the task `tokens` only.
    """

    task: Task
    what: str
    logits: Array
    targets: Array
    true: Array
    class_names: list[str]
    attributes: dict[str, list[Any]]
    offsets: Array | None = None

    @property
    def errors(self) -> list[Array]:
        """True for each element whose label is wrong, an array for each example."""
        wrong = self.targets != self.true
        return list(wrong) if self.offsets is None else np.split(wrong, self.offsets[1:-1])

    @property
    def accuracy(self) -> float:
        """Share of the elements that the models predict as the true label says."""
        is_sigmoid = self.task == "multi_label"
        predicted = self.logits > 0 if is_sigmoid else self.logits.argmax(1)
        return float((predicted == self.true).mean())
