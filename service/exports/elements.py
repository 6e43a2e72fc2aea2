"""The elements and units of an exported example."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.errors import InvalidRequestError
from service.exports.row_verdicts import NO_VERDICT, RowVerdict
from service.queries.unit_names import UnitName
from service.runs.units import unit_json

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class RowUnit:
    """Neighbouring elements whose predictions differ from their targets.

    Args:
        name: The unit as in reviews.
        places: (E,) positions of the elements in the flat targets, ascending.
        predictions: (E,) predicted classes of the elements.
        given: Target of the main pair (target, prediction) of the unit.
        suggested: Prediction of the main pair.
        suggested_p: Mean probability of the predictions, in [0, 1]; None if unknown.
        verdict: The verdict on the unit.
    """

    name: UnitName
    places: Numbers
    predictions: Numbers
    given: int
    suggested: int
    suggested_p: float | None
    verdict: RowVerdict = NO_VERDICT


@dataclass(frozen=True, slots=True, eq=False)
class AllElements:
    """All elements of an example, flat.

    Args:
        targets: (T,) classes; -1 is ignored.
        predictions: (T,) classes.
        log_odds: (T,) float32, log(p_t / (1 - p_t)).
    """

    targets: Numbers
    predictions: Numbers
    log_odds: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class RowElements:
    """The elements of an example.

    Args:
        shape: Axes of the targets.
        units: The units to export.
        all: All elements; None if the export needs those of the units only.
    """

    shape: tuple[int, ...]
    units: tuple[RowUnit, ...]
    all: AllElements | None = None

    def only(self, units: Collection[str] | None) -> RowElements:
        """The elements with these units, in this order, as texts of JSON; all units for None."""
        if units is None:
            return self
        known = {unit_json(unit.name): unit for unit in self.units}
        return replace(self, units=tuple(known[name] for name in units if name in known))


def check_axes(identity: str, elements: RowElements) -> None:
    """Raise if the elements of an example are no image.

    Raises:
        InvalidRequestError: They do not have two axes; names the example.
    """
    if len(elements.shape) != 2:
        axes = " x ".join(map(str, elements.shape))
        msg = f"example {identity[:100]!r} is {axes}: labelling tools take masks of two axes"
        raise InvalidRequestError(f"{msg}; export csv, jsonl or parquet")
