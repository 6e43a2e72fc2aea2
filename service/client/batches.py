"""Batches as the client sends them, and their conversion from arrays, mappings and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.client.arrays import check_ids, named_array, package_of, targets_tensor, tensor
from service.client.example_lists import join_examples
from service.client.reduction import Reducer
from service.errors import InvalidRequestError
from service.formats.part_names import OFFSETS, PART_NAMES, NamesError, find_name, required_parts
from service.formats.safetensors import Tensor
from service.schema.faults import fault
from service.schema.request import STATISTICS, Ids, OnInvalid
from service.schema.structure import Layout


@dataclass(frozen=True, eq=False)
class SentBatch:
    """A batch to send. The ids are not sent with `POST /loss`: the client puts them into the result.

    Args:
        tensors: By part: `logits` or statistics, `targets`, and `offsets` of ragged examples.
        ids: One string or integer per example, or None.
        num_classes: Number of classes of statistics in softmax mode; None: unknown, or see the logits.
        layout: Layout of the batch.
    """

    tensors: Mapping[str, Tensor]
    ids: Ids | None
    num_classes: int | None = None
    layout: Layout = "rows"

    @property
    def num_examples(self) -> int:
        return _num_examples(self.tensors)

    @property
    def nbytes(self) -> int:
        return sum(tensor.data.nbytes for tensor in self.tensors.values())

    def copy(self) -> SentBatch:
        """Return a batch with copied data, so that the caller can reuse the arrays."""
        copies = {
            part: Tensor(tensor.dtype, tensor.shape, memoryview(bytes(tensor.data)))
            for part, tensor in self.tensors.items()
        }
        return replace(self, tensors=copies)


def sent_batch(
    batch: Any,
    number: int = 0,
    class_names: Sequence[str] | None = None,
    on_invalid: OnInvalid = "error",
    reducer: Reducer | None = None,
    layout: Layout = "rows",
    num_classes: int | None = None,
) -> SentBatch:
    """Convert a batch for sending.

    Args:
        batch: `(logits, targets)`, `(logits, targets, ids)`, or a mapping or table with these columns, which may have
            the other names of `service.formats.part_names`. Tables are those of Arrow, polars, pandas and DuckDB. A
            mapping may have `offsets`, without which ragged examples are one list of elements for each; without
            logits, it or a table has the statistics of `service.schema.request.STATISTICS`.
        number: Position in the request, for error messages.
        class_names: Names of the classes, for labels that are texts. Without them such a label is a number.
        on_invalid: `exclude` to send an invalid label as one that the service leaves out.
        reducer: Reduces logits to the statistics to send in their place; None: send the logits.
        layout: Layout of the batch.
        num_classes: Number of classes of a batch that has statistics in place of logits; None: unknown.

    Raises:
        InvalidRequestError: The batch has none of these forms, or contains logits that are not numbers.
        ShapeError: Rows of different lengths, or the number of ids is not the number of rows.
        InvalidTargetError: A label is neither a number nor the name of a class.
        InvalidIdsError: An id is not unique, or neither a string nor an integer of 64 bits.
        NeedsLogitsError: The loss does not follow from the statistics that `reducer` sends.
    """
    parts = _joined(_parts(batch, number, layout), number, layout)
    logits, targets = parts.pop("logits", None), parts.pop("targets")
    ids = parts.pop("ids", None)
    others = {part: tensor(value, part, number) for part, value in parts.items()}
    offsets = others.get(OFFSETS)
    labels = targets_tensor(targets, number, class_names, on_invalid, layout, offsets)
    if logits is not None and reducer is not None:
        tensors, num_classes = reducer.reduce(logits, labels, offsets, number)
        tensors |= others
    else:
        first = {} if logits is None else {"logits": tensor(logits, "logits", number)}
        tensors = first | {"targets": labels} | others
    checked = None if ids is None else check_ids(ids, _num_examples(tensors), number)
    return SentBatch(tensors, checked, num_classes, layout)


def has_text_labels(batch: Any, layout: Layout = "rows") -> bool:
    """Return True if the labels of a batch are texts or other objects, which can be names of classes."""
    has_texts, _ = _labels(batch, layout)
    return has_texts


def has_class_numbers(batch: Any) -> bool:
    """Return True if a batch has the number of one class for each example, which every run of classification takes."""
    try:
        has_texts, num_axes = _labels(batch, "rows")
    except InvalidRequestError:
        # Lists of different lengths.
        return False
    has_offsets = isinstance(batch, Mapping) and batch.get(OFFSETS) is not None
    return not has_texts and num_axes == 1 and not has_offsets


def _labels(batch: Any, layout: Layout) -> tuple[bool, int]:
    """True for labels that are no numbers, and the number of their axes."""
    if _is_table(batch) and layout == "rows":
        from service.client.arrow import table_labels

        labels = table_labels(batch, 0)
    else:
        parts = _parts(batch, 0, layout)
        # To join the logits takes time and memory.
        targets = _joined({part: parts[part] for part in ("targets", OFFSETS) if part in parts}, 0, layout)["targets"]
        if package_of(targets) == "torch":
            return False, targets.dim()
        _, labels = named_array(targets, "targets", 0)
    return labels.dtype.kind not in "biuf", labels.ndim


def _num_examples(tensors: Mapping[str, Tensor]) -> int:
    part = next(name for name in (OFFSETS, "logits", "targets") if name in tensors)
    count = tensors[part].shape[0] if tensors[part].shape else 0
    return max(0, count - 1) if part == OFFSETS else count


def _is_table(batch: Any) -> bool:
    return hasattr(batch, "__arrow_c_stream__") or hasattr(batch, "__arrow_c_array__")


def _parts(batch: Any, number: int, layout: Layout = "rows") -> Mapping[str, Any]:
    """Return the logits or statistics, labels, ids and offsets of a batch, as far as it has them."""
    if _is_table(batch):
        from service.client.arrow import table_parts

        return table_parts(batch, number, layout)
    if isinstance(batch, Mapping):
        return _members(batch, number)
    if isinstance(batch, Sequence) and len(batch) in (2, 3):
        return dict(zip(("logits", "targets", "ids"), batch, strict=False))
    raise InvalidRequestError(
        f"batch {number}: a batch is (logits, targets), (logits, targets, ids), a mapping or a table, "
        f"got {type(batch).__name__}"
    )


def _joined(parts: Mapping[str, Any], number: int, layout: Layout) -> dict[str, Any]:
    """Return the parts, of ragged examples without offsets as one list of all elements; see `join_examples`."""
    return dict(join_examples(parts, number) if layout == "ragged" and OFFSETS not in parts else parts)


def _members(batch: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the parts of a mapping; one with logits has no statistics, whatever else is in it."""
    parts = {OFFSETS: batch[OFFSETS]} if batch.get(OFFSETS) is not None else {}
    for part in PART_NAMES:
        try:
            name = find_name(part, batch.keys())
        except NamesError as err:
            raise fault(InvalidRequestError, err.msg, part, batch=number) from err
        if name is not None and not ("logits" in parts and part in STATISTICS):
            parts[part] = batch[name]
    for part in required_parts(parts):
        if part not in parts:
            raise fault(InvalidRequestError, "missing", part, batch=number, detail=f"{part} missing")
    return parts
