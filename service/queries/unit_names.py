"""The names of units in requests and replies."""

from __future__ import annotations

from collections.abc import Sequence

from service.schema.structure import Task

# The name of a unit as compact JSON, of rows of `View.units`; `service.runs.units.unit_json` writes the same.
UNIT_JSON: dict[Task, str] = {
    "multi_label": "to_json(start[1])::VARCHAR",
    "tokens": "to_json([start[1], stop[1]])::VARCHAR",
    "masks": "to_json(unit)::VARCHAR",
}
# A label, a span of tokens, or the number of a region.
UnitName = int | list[int]


def unit_name(task: Task, number: int, start: Sequence[int], stop: Sequence[int]) -> UnitName:
    """The name of a unit, by the task of its run: the index of the label, the span [start, stop), or its number.

    Args:
        task: Task of the run.
        number: Number of the unit in its example.
        start: First index along each axis of the targets.
        stop: Last index along each axis, plus 1.
    """
    if task == "multi_label":
        return start[0]
    return [start[0], stop[0]] if task == "tokens" else number
