"""Conditions on the examples of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from service.queries.attributes import json_pointer, last_attributes
from service.queries.sql import Condition
from service.queries.view import View

# The time of a query grows with its filters by attribute.
MAX_ATTRIBUTES = 8


@dataclass(frozen=True)
class Filter:
    """Conditions on the examples to show; all of them must hold.

    Args:
        classes: Allowed classes by column: `target` or `prediction`.
        at_least: Smallest value by score of `SCORE_NAMES`.
        at_most: Largest value by score of `SCORE_NAMES`.
        correct: True for rows whose prediction is the target, False for the others.
        attributes: Required text by attribute, compared with the attributes that were sent last for the example.
        ids: Ids of the examples; None for all.
    """

    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    ids: Sequence[str] | None = None

    def sql(self, view: View) -> Condition:
        """The condition in SQL."""
        conditions = ["true"]
        parameters: list[object] = []
        for name, labels in self.classes.items():
            conditions.append(f"{name} IN (SELECT unnest(?::INTEGER[]))")
            parameters.append(list(labels))
        for sign, bounds in ((">=", self.at_least), ("<=", self.at_most)):
            for name, bound in bounds.items():
                conditions.append(f"{name} {sign} ?::DOUBLE")
                parameters.append(bound)
        if self.correct is not None:
            conditions.append(f"({view.correct}) = {str(self.correct).lower()}")
        if self.attributes:
            equal = " AND ".join(["json_extract_string(attributes, ?) = ?"] * len(self.attributes))
            conditions.append(f"id IN (SELECT id FROM {last_attributes(view)} WHERE {equal})")
            parameters += [value for name, text in self.attributes.items() for value in (json_pointer(name), text)]
        if self.ids is not None:
            table = view.register("only_ids", pa.table({"id": pa.array(self.ids, pa.string())}))
            conditions.append(f"id IN (SELECT id FROM {table})")
        return " AND ".join(conditions), parameters
