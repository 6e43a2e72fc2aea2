"""The size of columns with every value in full: dictionaries, views and runs store a value once for many rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from service.formats.arrow_types import PLAIN_TYPES
from service.formats.columns import Array

# The layout of a string view (Arrow Columnar Format, "Variable-size Binary View Layout").
VIEW = np.dtype([("length", "<i4"), ("rest", "V12")])
# More than any value of a type other than text or lists, and than a reference to a Python object.
VALUE_BYTES = 16


def plain_size(column: pa.Array | pa.ChunkedArray) -> int:
    """The bytes of a column as `plain` decodes it, at most; a column of nulls counts its rows."""
    if isinstance(column, pa.ChunkedArray):
        return sum(map(plain_size, column.chunks))
    values = _innermost(column)
    return int(column.nbytes) + (0 if values.type.id in PLAIN_TYPES else _shared_size(values))


def _innermost(column: pa.Array) -> pa.Array:
    """The values in the lists or tensors of a column."""
    while True:
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = column.storage
        elif pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
            column = column.values
        else:
            return column


def _shared_size(column: pa.Array) -> int:
    """The bytes of the values that the column stores once for many rows."""
    kind, rows = column.type, len(column)
    if pat.is_null(kind):
        return VALUE_BYTES * rows
    if pat.is_dictionary(kind):
        lengths, indices = _lengths(column.dictionary), column.indices.drop_null().to_numpy()
        return VALUE_BYTES * rows if lengths is None else int(lengths[indices].sum())
    if pat.is_run_end_encoded(kind):
        lengths = _lengths(column.values)
        longest = VALUE_BYTES if lengths is None or not len(lengths) else VALUE_BYTES + int(lengths.max())
        return longest * rows
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return VALUE_BYTES * int(pc.sum(column.value_lengths()).as_py() or 0)
    if pat.is_string_view(kind) or pat.is_binary_view(kind):
        lengths = _lengths(column)
        return 0 if lengths is None else int(lengths.sum())
    return 0


def _lengths(values: pa.Array) -> Array | None:
    """Bytes of each text, None for other types; Arrow has no function for the lengths of views."""
    kind = values.type
    if pat.is_string(kind) or pat.is_large_string(kind) or pat.is_binary(kind) or pat.is_large_binary(kind):
        lengths: Array = pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return lengths
    if pat.is_string_view(kind) or pat.is_binary_view(kind):
        views = np.frombuffer(values.buffers()[1], VIEW)[values.offset : values.offset + len(values)]
        return np.where(values.is_valid().to_numpy(zero_copy_only=False), views["length"], 0).astype(np.int64)
    return None
