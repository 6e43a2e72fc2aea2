"""Rows of structured examples, as an export gives them to labelling tools."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from service.exports.elements import AllElements, RowElements, RowUnit
from service.exports.rows import ExportOptions, ExportRow
from tests.exports.examples import PLAIN, options

CLASSES = ("O", "B-PER", "I-PER", "LOC")
WHOLE = replace(PLAIN, target=None, prediction=None, suggested=None, given_label=None, suggested_label=None)


def unit(name: int | list[int], places: list[int], predictions: list[int], p: float | None = 0.75) -> RowUnit:
    """A unit whose targets are 0, and whose main prediction is its first one."""
    return RowUnit(name, np.array(places), np.array(predictions), 0, predictions[0], p)


def row(shape: tuple[int, ...], *units: RowUnit, **attributes: Any) -> ExportRow:
    """A row of tokens or a mask."""
    return replace(WHOLE, elements=RowElements(shape, units), attributes=attributes)


def labels_row(targets: list[int], logits: list[float]) -> ExportRow:
    """A row of several labels."""
    given, x = np.array(targets), np.array(logits, np.float32)
    everything = AllElements(given, (x > 0).astype(np.int32), np.where(given == 1, x, -x))
    return replace(WHOLE, elements=RowElements((len(x),), (), everything))


def mask_of(text: str) -> Any:
    """The mask in a label of FiftyOne."""
    return np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))))


def task_options(task: str, **changes: Any) -> ExportOptions:
    return options(task=task, class_names=CLASSES, **changes)
