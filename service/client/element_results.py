"""The outputs of elements and the regions of a reply, as arrays of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson

from service.formats.ragged import offsets_of
from service.schema.request import REGIONS, Column
from service.schema.structure import Regions

PREFIX = "per_element."


@dataclass(frozen=True, eq=False)
class ElementResults:
    """Outputs of the elements of a batch, and its regions; see `service.schema.result.BatchResult`."""

    per_element: dict[str, Column] = field(default_factory=dict)
    offsets: Column | None = None
    regions: Regions | None = None


def element_results(
    tensors: Mapping[str, Column], metadata: Mapping[str, str], num_examples: Sequence[int]
) -> list[ElementResults]:
    """Divide the tensors of a reply among its batches.

    Args:
        tensors: The tensors of the reply.
        metadata: Its metadata.
        num_examples: Number of examples of each batch.

    Raises:
        ValueError, KeyError, TypeError, IndexError: The reply has another form.
    """
    bounds = list(pairwise(accumulate(num_examples, initial=0)))
    offsets: list[Column | None] = [None] * len(bounds)
    if "offsets" in tensors:
        parts = [tensors["offsets"][start : stop + 1] for start, stop in bounds]
        bounds = [(int(part[0]), int(part[-1])) for part in parts]
        offsets = [part - part[0] for part in parts]
    shapes = [tuple(shape) for shape in orjson.loads(metadata.get("element_shapes", "[]"))]
    if shapes:
        bounds = list(pairwise(accumulate((int(np.prod(shape)) for shape in shapes), initial=0)))
    outputs = {name.removeprefix(PREFIX): array for name, array in tensors.items() if name.startswith(PREFIX)}
    per_element = [
        {
            name: array[start:stop].reshape(shapes[number]) if shapes else array[start:stop]
            for name, array in outputs.items()
        }
        for number, (start, stop) in enumerate(bounds)
    ]
    regions = _regions(metadata, num_examples)
    return [ElementResults(*batch) for batch in zip(per_element, offsets, regions, strict=True)]


def _regions(metadata: Mapping[str, str], num_examples: Sequence[int]) -> Sequence[Regions | None]:
    if REGIONS not in metadata:
        return [None] * len(num_examples)
    lists = iter(orjson.loads(metadata[REGIONS]))
    return [_batch_regions([next(lists) for _ in range(count)]) for count in num_examples]


def _batch_regions(lists: Sequence[Sequence[Mapping[str, Any]]]) -> Regions:
    """The regions of a batch, from a list of regions for each example."""
    rows = [region for regions in lists for region in regions]

    def column(name: str, dtype: type) -> Column:
        return np.array([row[name] for row in rows], dtype)

    boxes = np.array([row["box"] for row in rows], np.int64).reshape(len(rows), 2, -1 if rows else 1)
    return Regions(
        offsets=offsets_of([len(regions) for regions in lists]),
        number=column("region", np.int64),
        given=column("given", np.int64),
        suggested=column("suggested", np.int64),
        num_elements=column("num_elements", np.int64),
        start=boxes[:, 0],
        stop=boxes[:, 1],
        loss_sum=column("loss_sum", np.float64),
        p_t=column("p_t", np.float64),
    )
