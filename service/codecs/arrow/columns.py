"""The columns of a reply in Arrow: outputs of examples, outputs of elements as lists, and regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from service.codecs.element_outputs import PREFIX
from service.formats.arrow_types import in_lists, num_levels
from service.schema.request import REGIONS, Column
from service.schema.result import BatchResult

INTEGERS = ("prediction", "num_valid")
REGION = pa.struct(
    [
        ("region", pa.int64()),
        ("given", pa.int64()),
        ("suggested", pa.int64()),
        ("num_elements", pa.int64()),
        ("box", pa.list_(pa.list_(pa.int64()))),
        ("loss_sum", pa.float64()),
        ("p_t", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ReplyColumns:
    """The columns of a reply.

    Args:
        outputs: Outputs of each example.
        elements: Outputs of each element, lists in the columns `per_element.<output>`.
        element_levels: Lists in each other in these columns; 0 if an example has one element.
        has_regions: True for a column `regions`.
        id_type: Type of the column `id`; None: a column `index` with the position in the batch instead.
        float_type: float32 or float64.
        many_labels: A prediction is a list with one value per label.
    """

    outputs: Sequence[str]
    id_type: pa.DataType | None
    float_type: pa.DataType
    many_labels: bool
    elements: Sequence[str] = ()
    element_levels: int = 0
    has_regions: bool = False

    def schema(self) -> pa.Schema:
        """The schema of the reply."""
        identity = pa.field("index", pa.int64()) if self.id_type is None else pa.field("id", self.id_type)
        examples = [
            pa.field(name, self._type(name, int(name == "prediction" and self.many_labels)))
            for name in dict.fromkeys(self.outputs)
            if name != REGIONS
        ]
        elements = [
            pa.field(PREFIX + name, self._type(name, self.element_levels)) for name in dict.fromkeys(self.elements)
        ]
        regions = [pa.field(REGIONS, pa.list_(REGION))] if self.has_regions else []
        return pa.schema([identity, *examples, *elements, *regions])

    def _type(self, name: str, levels: int) -> pa.DataType:
        return in_lists(pa.int64() if name in INTEGERS else self.float_type, levels)


def element_levels(values: Column, offsets: Column | None) -> int:
    """The lists in each other in the column of an output of elements; see `nested_column`."""
    return values.ndim - (offsets is None)


def nested_column(values: Column, offsets: Column | None, kind: pa.DataType, missing: Column | None = None) -> pa.Array:
    """A column with null for missing values; infinities stay.

    Args:
        values: (N,), or (N, d1, ...) as lists in each other.
        offsets: (N + 1,) first element of each row of (T,) or (T, L) values; None: each row has one index of the first
            axis.
        kind: Type of the column.
        missing: True for each missing value; None: they are NaN, or negative integers, as a prediction of -1.
    """
    num_axes = 1 + num_levels(kind) - (offsets is not None)
    # A batch of one label, or without values, may have fewer or more axes than others of the stream.
    values = values.reshape((*values.shape, *[1] * (num_axes - values.ndim))[:num_axes])
    if missing is None:
        missing = values < 0 if values.dtype.kind == "i" else np.isnan(values)
    column = pa.array(values.ravel(), mask=missing.ravel())
    for axis in range(num_axes - 1, 0, -1):
        column = _lists(np.arange(math.prod(values.shape[:axis]) + 1) * values.shape[axis], column)
    return (column if offsets is None else _lists(offsets, column)).cast(kind)


def _lists(offsets: Column, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def regions_column(result: BatchResult) -> pa.Array:
    """The regions of each example as a list of `REGION`."""
    regions = result.regions
    if regions is None:
        return pa.array([[]] * result.num_examples, pa.list_(REGION))
    boxes = np.stack([regions.start, regions.stop], axis=1)
    columns = [
        pa.array(regions.number),
        pa.array(regions.given),
        pa.array(regions.suggested),
        pa.array(regions.num_elements),
        nested_column(boxes, None, REGION.field("box").type),
        pa.array(regions.loss_sum),
        pa.array(regions.p_t),
    ]
    return _lists(regions.offsets, pa.StructArray.from_arrays(columns, fields=list(REGION)))
