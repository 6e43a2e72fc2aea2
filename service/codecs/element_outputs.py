"""The outputs of elements and the regions of all batches of a result, for formats with tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.codecs.json_elements import regions_json
from service.codecs.json_reply import json_text
from service.errors import TooManyRegionsError
from service.formats.ragged import offsets_of
from service.formats.safetensors import LARGEST_HEADER_BYTES
from service.schema.request import REGIONS, Column
from service.schema.result import BatchResult, LossResult

PREFIX = "per_element."
# Of their JSON, in whose place in the header each quote takes two bytes.
MAX_REGION_BYTES = LARGEST_HEADER_BYTES * 4 // 5
# Of the JSON of a region whose numbers have one digit.
LEAST_REGION_BYTES = 90


@dataclass(frozen=True, eq=False)
class ElementOutputs:
    """Tensors and texts of a reply.

    Args:
        tensors: `per_element.<output>`: the values of all batches, shaped like the targets; (elements,) if the targets
            of two batches differ in more than their number.
        offsets: (N + 1,) int64, first element of each example of all batches; None unless ragged.
        metadata: `regions`, JSON: for each example the list of its regions. `element_shapes`, JSON: the shape of each
            batch, if the tensors are (elements,).
    """

    tensors: dict[str, Column]
    offsets: Column | None
    metadata: dict[str, str]

    @classmethod
    def of(cls, result: LossResult) -> ElementOutputs:
        """Collect the outputs of a result; those of one batch without a copy.

        Raises:
            TooManyRegionsError: The regions are larger than metadata may be.
        """
        batches, metadata = result.batches, {}
        names = list(batches[0].per_element) if batches else []
        shapes = [batch.per_element[names[0]].shape for batch in batches] if names else []
        is_flat = len({shape[1:] for shape in shapes}) > 1
        if is_flat:
            metadata["element_shapes"] = json_text(shapes)
        tensors = {
            PREFIX + name: _joined([batch.per_element[name] for batch in batches], is_flat=is_flat) for name in names
        }
        if batches and batches[0].regions is not None:
            metadata[REGIONS] = _regions(batches)
        return cls(tensors, _offsets(batches), metadata)


def _joined(arrays: list[Column], *, is_flat: bool) -> Column:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([array.ravel() for array in arrays] if is_flat else arrays)


def _offsets(batches: tuple[BatchResult, ...]) -> Column | None:
    offsets = [batch.offsets for batch in batches if batch.offsets is not None]
    if not offsets:
        return None
    return offsets_of(np.concatenate([np.diff(of_batch) for of_batch in offsets]))


def _regions(batches: tuple[BatchResult, ...]) -> str:
    regions = [batch.regions for batch in batches if batch.regions is not None]
    _check_size(LEAST_REGION_BYTES * sum(len(of_batch.number) for of_batch in regions))
    texts = [regions_json(of_batch) for of_batch in regions]
    _check_size(sum(map(len, texts)))
    if len(texts) > 1:
        texts = [b"[%b]" % b",".join(text[1:-1] for text in texts if len(text) > 2)]
    return texts[0].decode()


def _check_size(size: int) -> None:
    if size > MAX_REGION_BYTES:
        msg = f"the regions take {size} bytes or more, the metadata of safetensors holds {MAX_REGION_BYTES}"
        raise TooManyRegionsError(f"{msg}: ask for fewer of each example (top_regions), or for JSON or Arrow")
