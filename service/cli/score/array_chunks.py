"""Chunks of the rows of arrays: .npz and safetensors."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from service.cli.errors import DataError
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.sources import Source
from service.formats.columns import Array, ColumnError, ResolvedColumns, ids_of
from service.formats.safetensors import as_numbers, read_safetensors


def array_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a file of arrays.

    Raises:
        ColumnError: A value is invalid, or an array has no rows.
        DataError: The arrays have different numbers of rows.
    """
    arrays, columns = _read_arrays(source, reading)
    rows = _num_rows(arrays, columns, source.path)
    logits = [arrays[name] for name in columns.logits]
    step = reading.rows_of(_width(logits), 8 if logits[0].dtype.kind != "f" else logits[0].itemsize)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        names = zip(logits, columns.logits, strict=True)
        floats = [_floats(values[part], name, start) for values, name in names]
        targets = _plain_numbers(arrays[columns.targets][part], columns.targets)
        yield Chunk(
            source,
            start,
            floats[0] if len(floats) == 1 else np.column_stack(floats),
            reading.labels(targets, columns.targets, start),
            ids_of(_listed(arrays[columns.id][part]), columns.id, start) if columns.id else None,
            {name: _listed(arrays[name][part]) for name in columns.attributes},
        )


def _read_arrays(source: Source, reading: Reading) -> tuple[Mapping[str, Array], ResolvedColumns]:
    if source.format == "npz":
        with source.open() as file, np.load(file, allow_pickle=False) as archive:
            columns = reading.names.resolve(archive.files, source.path)
            return {name: archive[name] for name in dict.fromkeys(columns.all)}, columns
    with source.open() as file:
        if source.is_stream:
            content = memoryview(bytearray(file.read()))
        else:
            # The kernel reads pages when their rows are scored. Private pages: writes do not reach the file.
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    tensors, _ = read_safetensors(content)
    return tensors, reading.names.resolve(list(tensors), source.path)


def _num_rows(arrays: Mapping[str, Array], columns: ResolvedColumns, where: str) -> int:
    names = list(dict.fromkeys(columns.all))
    for name in names:
        if not isinstance(arrays[name], np.ndarray) or not arrays[name].ndim:
            raise ColumnError("not an array with a row for each example", None, name)
    counts = {name: len(arrays[name]) for name in names}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name!r}" for name, count in list(counts.items())[:20])
        raise DataError(f"{where}: the arrays have different numbers of rows: {listed}")
    if len(columns.logits) > 1 and any(arrays[name].ndim > 1 for name in columns.logits):
        raise ColumnError("an array for each class has one dimension", None, columns.logits[0])
    return counts[names[0]]


def _width(logits: Sequence[Array]) -> int:
    return len(logits) * int(np.prod(logits[0].shape[1:]))


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
