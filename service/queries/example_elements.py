"""The elements and the units of one structured example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from service.queries.element_losses import STORED_FOR_LOSSES, ElementLosses
from service.queries.stored_row import stored_row
from service.queries.unit_names import unit_name
from service.queries.view import SqlRow, View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.runs.units import UnitKey
from service.schema.replies.examples import ExampleElements, ExampleUnit

# The elements of a larger example are left out of replies; a mask of 512 x 512 has so many.
MAX_ELEMENTS = 2**18
MAX_UNITS = 1000
STORED = [*STORED_FOR_LOSSES, "shape", "predictions"]


def course_of(view: View, weighting: Weighting, identity: str) -> list[SqlRow]:
    """The rows of an example in all epochs, with the columns of `View.scored`, by epoch, batch and row."""
    sql = f"SELECT epoch, batch, row FROM {view.stored()} WHERE id = ? ORDER BY ALL"
    losses = view.element_losses(weighting)
    return [losses.of(stored_row(view, place, STORED))[0].to_pylist()[0] for place in view.rows(sql, [identity])]


def elements_of(row: pa.RecordBatch) -> ExampleElements | None:
    """The elements of a stored row; None if there are more than MAX_ELEMENTS, or they stand for several."""
    if row["element_counts"][0].is_valid or row["targets"].value_lengths()[0].as_py() > MAX_ELEMENTS:
        return None
    targets = row["targets"].flatten().to_numpy()
    ignored = targets < 0
    return {
        "shape": row["shape"][0].as_py(),
        "targets": pa.array(targets, mask=ignored).to_pylist(),
        "predictions": row["predictions"][0].as_py(),
        "log_odds": pa.array(row["element_log_odds"].flatten().to_numpy(), mask=ignored).to_pylist(),
    }


def units_of(view: View, losses: ElementLosses, row: pa.RecordBatch, verdicts: Verdicts) -> list[ExampleUnit]:
    """The units of a stored row with the largest losses, at most MAX_UNITS."""
    units = losses.of(row)[1]
    order = np.argsort(-units["log_loss"].to_numpy(), kind="stable")[:MAX_UNITS]
    return [_unit(view, unit, verdicts) for unit in units.take(pa.array(order)).to_pylist()]


def _unit(view: View, unit: Mapping[str, Any], verdicts: Verdicts) -> ExampleUnit:
    value = unit_name(view.snapshot.description.task, unit["unit"], unit["start"], unit["stop"])
    standing = verdicts.get(UnitKey.of({"id": unit["id"], "unit": value}))
    p = unit["suggested_p"]
    return {
        "unit": value,
        "target": unit["target"],
        "suggested": unit["prediction"],
        "suggested_p": None if p is None or np.isnan(p) else p,
        "num_elements": unit["num_elements"],
        "box": [unit["start"], unit["stop"]],
        "loss": unit["loss"],
        "p_t": unit["p_t"],
        "verdict": None if standing is None else standing.verdict,
    }
