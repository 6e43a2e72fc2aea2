"""Types of Arrow columns: a column is what it holds, whatever it is encoded as."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

# Types that are looked at for every batch, by the number that Arrow gives them.
PLAIN_TYPES = frozenset(
    kind.id
    for kind in (
        *(pa.bool_(), pa.string(), pa.large_string(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.list_(pa.float32()), pa.list_(pa.float32(), 1), pa.large_list(pa.float32())),
    )
)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values: that of a dictionary's values, a tensor's storage, runs and views."""
    if kind.id in PLAIN_TYPES:
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pat.is_dictionary(kind) or pat.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pat.is_string_view(kind):
        return pa.string()
    return pa.binary() if pat.is_binary_view(kind) else kind


def innermost_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values in lists, or of the values themselves; see `plain_type`."""
    kind = plain_type(kind)
    return innermost_type(kind.value_type) if is_list(kind) else kind


def num_levels(kind: pa.DataType) -> int:
    """The number of lists in each other in a row of a column; a tensor counts its dimensions."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape)
    kind = plain_type(kind)
    return 1 + num_levels(kind.value_type) if is_list(kind) else 0


def in_lists(kind: pa.DataType, levels: int) -> pa.DataType:
    """The type of values in so many lists in each other; `num_levels` counts them."""
    for _ in range(levels):
        kind = pa.list_(kind)
    return kind


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Decode a column to one array of its `plain_type`, without a copy if it is one already.

    The items of lists keep their type. The result can be much larger than the column.
    """
    if isinstance(column, pa.ChunkedArray):
        chunks = [plain(chunk) for chunk in column.chunks]
        if len(chunks) == 1:
            return chunks[0]
        return pa.concat_arrays(chunks) if chunks else pa.array([], plain_type(column.type))
    kind = column.type
    if kind.id in PLAIN_TYPES:
        return column
    if isinstance(kind, pa.BaseExtensionType):
        column = column.storage
    elif pat.is_dictionary(kind):
        column = column.dictionary_decode()
    elif pat.is_run_end_encoded(kind):
        column = pc.run_end_decode(column)
    else:
        return column if plain_type(kind) == kind else column.cast(plain_type(kind))
    return plain(column)


def innermost(column: pa.Array) -> pa.Array:
    """The values in the nested lists of a decoded column, or the column itself; see `plain`."""
    while is_list(column.type):
        column = plain(column.flatten())
    return column


def id_type(ids: Collection[str | int]) -> pa.DataType:
    """The type of a column of ids: integers of 64 bits, signed or else unsigned, if it can hold all; otherwise text.

    Args:
        ids: At least one id.
    """
    if any(isinstance(identity, str) for identity in ids):
        return pa.string()
    least, largest = min(map(int, ids)), max(map(int, ids))
    if largest < 2**63:
        return pa.int64()
    return pa.uint64() if least >= 0 else pa.string()


def is_list(kind: pa.DataType) -> bool:
    """True if the column has a list in each row."""
    tests = (pat.is_list, pat.is_large_list, pat.is_fixed_size_list, pat.is_list_view, pat.is_large_list_view)
    return any(test(kind) for test in tests)


def is_number(kind: pa.DataType) -> bool:
    """True for integers, floats and decimals."""
    return bool(pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """True for texts of a plain type."""
    return bool(pat.is_string(kind) or pat.is_large_string(kind))
