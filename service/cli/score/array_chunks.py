"""Chunks of the rows of arrays: .npz and safetensors."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from service.cli.errors import DataError
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.sources import Source
from service.errors import ShapeError
from service.formats.column_names import ResolvedColumns
from service.formats.columns import Array, ColumnError, ids_of
from service.formats.part_names import OFFSETS
from service.formats.ragged import checked_offsets
from service.formats.safetensors import as_numbers, read_safetensors
from service.schema.request import NO_LOGITS

Arrays = Mapping[str, Array]


def array_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a file of arrays.

    Raises:
        ColumnError: A value is invalid, or an array has no rows.
        DataError: The arrays have different numbers of rows.
    """
    arrays, columns, pages = _read_arrays(source, reading)
    rows = _num_elements(arrays, columns, source.path)
    element_bytes = sum(_element_bytes(arrays[name]) for name in columns.numbers)
    offsets = _offsets(arrays, rows) if reading.layout == "ragged" else None
    sizes = np.broadcast_to(np.int64(1), rows) if offsets is None else np.diff(offsets)
    _check_rows(arrays, columns, len(sizes), source.path)
    start = 0
    while start < len(sizes):
        stop = start + reading.num_fitting(element_bytes * sizes[start : start + reading.rows])
        yield _chunk(source, reading, arrays, columns, slice(start, stop), offsets)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            # The process would grow with the file. Pages that are read again come from the cache of the kernel.
            pages.madvise(mmap.MADV_DONTNEED)
        start = stop


def _chunk(
    source: Source, reading: Reading, arrays: Arrays, columns: ResolvedColumns, rows: slice, offsets: Array | None
) -> Chunk:
    """The chunk of these rows; `offsets` are those of the file."""
    start, part = rows.start, rows
    if offsets is not None:
        part = slice(int(offsets[rows.start]), int(offsets[rows.stop]))
        offsets = offsets[rows.start : rows.stop + 1] - part.start
    floats = {name: _floats(arrays[name][part], name, start) for name in columns.numbers}
    logits = [floats[name] for name in columns.logits] or [NO_LOGITS]
    targets = _plain_numbers(arrays[columns.targets][part], columns.targets)
    if reading.layout == "rows":
        labels = reading.labels(targets, columns.targets, start)
    else:
        soft = targets.ndim == logits[0].ndim
        labels = reading.element_labels(targets, columns.targets, start, offsets, soft=soft)
    return Chunk(
        source,
        start,
        logits[0] if len(logits) == 1 else np.column_stack(logits),
        labels,
        ids_of(_listed(arrays[columns.id][rows]), columns.id, start) if columns.id else None,
        {name: _listed(arrays[name][rows]) for name in columns.attributes},
        offsets,
        {name: floats[name] for name in columns.statistics} or None,
    )


def _read_arrays(source: Source, reading: Reading) -> tuple[Arrays, ResolvedColumns, mmap.mmap | None]:
    """The arrays of a file, its columns, and the pages of a mapped file."""
    further = (OFFSETS,) if reading.layout == "ragged" else ()
    if source.format == "npz":
        with source.open() as file, np.load(file, allow_pickle=False) as archive:
            columns = reading.names.resolve(archive.files, source.path)
            wanted = dict.fromkeys((*columns.all, *further))
            return {name: archive[name] for name in wanted if name in archive.files}, columns, None
    with source.open() as file:
        # The kernel reads pages when their rows are scored. Private pages: writes do not reach the file.
        pages = None if source.is_stream else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content = memoryview(bytearray(file.read()) if pages is None else pages)
    tensors, _ = read_safetensors(content)
    return tensors, reading.names.resolve(list(tensors), source.path), pages


def _num_elements(arrays: Arrays, columns: ResolvedColumns, where: str) -> int:
    """The length of the logits or statistics and of the targets."""
    for name in dict.fromkeys(columns.all):
        if not isinstance(arrays[name], np.ndarray) or not arrays[name].ndim:
            raise ColumnError("not an array with a row for each example", None, name)
    names = (*columns.numbers, columns.targets)
    _check_counts({name: len(arrays[name]) for name in names}, where)
    if len(columns.logits) > 1 and any(arrays[name].ndim > 1 for name in columns.logits):
        raise ColumnError("an array for each class has one dimension", None, columns.logits[0])
    return len(arrays[columns.targets])


def _check_rows(arrays: Arrays, columns: ResolvedColumns, rows: int, where: str) -> None:
    """Check the lengths of the arrays with one value for each row."""
    names = (*([columns.id] if columns.id else []), *columns.attributes)
    of_rows = columns.targets if rows == len(arrays[columns.targets]) else OFFSETS
    _check_counts({of_rows: rows} | {name: len(arrays[name]) for name in names}, where)


def _check_counts(counts: Mapping[str, int], where: str) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name!r}" for name, count in list(counts.items())[:20])
        raise DataError(f"{where}: the arrays have different numbers of rows: {listed}")


def _offsets(arrays: Arrays, elements: int) -> Array:
    """The offsets of a ragged file as int64."""
    if OFFSETS not in arrays:
        raise ColumnError(
            "the layout ragged needs an array offsets (N + 1,), the first element of each row", None, None
        )
    try:
        return checked_offsets(_plain_numbers(arrays[OFFSETS], OFFSETS), elements, 0)
    except ShapeError as err:
        (item,) = err.errors
        *_, place = item["loc"]
        raise ColumnError(item["msg"], place if isinstance(place, int) else None, OFFSETS) from err


def _element_bytes(values: Array) -> int:
    """Bytes of the numbers of an element, as `_floats` converts them."""
    itemsize = 8 if values.dtype.kind != "f" else values.itemsize
    return itemsize * int(np.prod(values.shape[1:]))


def _floats(values: Array, name: str, first_row: int) -> Array:
    """Logits in a type that the loss takes: integers become float64, and so do floats that are longer."""
    values = _plain_numbers(values, name)
    if values.dtype.kind not in "iuf":
        raise ColumnError(f"{values.dtype} is not a number", first_row, name)
    return values.astype(np.float64) if values.dtype.kind != "f" else values


def _plain_numbers(values: Array, name: str) -> Array:
    """Numbers in the byte order of the machine, of at most 64 bits; texts as objects."""
    values = as_numbers(values)
    match values.dtype.kind:
        case "f" if values.itemsize > 8:
            return values.astype(np.float64)
        case "b" | "i" | "u" | "f":
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        case "U" | "S" | "O":
            texts = np.empty(values.shape, object)
            texts[...] = np.array(_listed(values.ravel()), object).reshape(values.shape)
            return texts
    raise ColumnError(f"{values.dtype} is neither a number nor a text", None, name)


def _listed(values: Array) -> list[Any]:
    """Python values; bytes, which NumPy pads with zeros, become texts."""
    values = as_numbers(values)
    listed: list[Any] = values.tolist()
    return [value.decode(errors="backslashreplace") for value in listed] if values.dtype.kind == "S" else listed
