"""LLVM instructions for the CPU kernel that numba does not offer: prefetch, float16, vectors and tiles of a matrix.

In plain numba, float16 logits of 10 classes score half as fast, and 100 classes of float32 0.85 as fast.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Size of the tile that `transpose_tile` copies.
TILE_ROWS, TILE_CLASSES = 8, 4
LANES = 64
CACHE_LINE_BITS = 512
_intrinsic: Any = intrinsic


@_intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of one element of a contiguous array; an index past the end is harmless."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        _prefetch(builder, builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@_intrinsic
def prefetch_lanes(_typing: Any, rows: Any, row: Any, column: Any) -> Any:
    """Prefetch the cache lines that 64 elements of a row begin in; places past the end are harmless."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, row, column = args
        (start,) = _addresses(context, builder, rows, source, row, column, 1, LANES)
        first = builder.bitcast(start, ir.IntType(8).as_pointer())
        for line in range(0, LANES * rows.dtype.bitwidth, CACHE_LINE_BITS):
            _prefetch(builder, builder.gep(first, [ir.Constant(ir.IntType(64), line // 8)]))
        return context.get_dummy_value()

    return types.none(rows, types.intp, types.intp), generate


def _prefetch(builder: Any, pointer: Any) -> None:
    integer = ir.IntType(32)
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [address.type, integer, integer, integer])
    function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
    # Arguments: for reading, into the second-level cache, data.
    builder.call(function, [address, integer(0), integer(2), integer(1)])


@_intrinsic
def load_lanes(_typing: Any, rows: Any, row: Any, column: Any, block: Any, step: Any) -> Any:
    """block[step] = the widened rows[row, column : column + LANES], without the overhead of slices."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, row, column, target, step = args
        (address,) = _addresses(context, builder, rows, source, row, column, 1, LANES)
        value = _llvm_widened(builder, rows.dtype, builder.load(address, align=rows.dtype.bitwidth // 8))
        zero = ir.Constant(step.type, 0)
        (address,) = _addresses(context, builder, block, target, step, zero, 1, LANES)
        builder.store(value, address, align=block.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(rows, types.intp, types.intp, block, types.intp), generate


def _llvm_widened(builder: Any, kind: Any, value: Any) -> Any:
    """`widened` for one value or a vector of values."""
    count = value.type.count if isinstance(value.type, ir.VectorType) else None

    def shape(scalar: Any) -> Any:
        return scalar if count is None else ir.VectorType(scalar, count)

    if kind == types.int16:
        wide = builder.zext(value, shape(ir.IntType(32)))
        shifted = builder.shl(wide, ir.Constant(wide.type, 16 if count is None else [16] * count))
        return builder.bitcast(shifted, shape(ir.FloatType()))
    if kind == types.uint16:
        return builder.fpext(builder.bitcast(value, shape(ir.HalfType())), shape(ir.FloatType()))
    return value


@_intrinsic
def widened(_typing: Any, value: Any) -> Any:
    """Convert a bfloat16 in an int16, or a float16 in a uint16, to float32; return float32 and float64 unchanged."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _llvm_widened(builder, value, args[0])

    return (value if isinstance(value, types.Float) else types.float32)(value), generate


@_intrinsic
def transpose_tile(_typing: Any, rows: Any, row: Any, column: Any, columns: Any) -> Any:
    """columns[column : column + TILE_CLASSES, row : row + TILE_ROWS] = the widened transpose of that tile of `rows`.

    Loads and stores whole vectors and permutes them in registers, instead of one load and one store for each value.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, row, column, target = args

        def permuted(first: Any, second: Any, places: range) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
            return builder.shuffle_vector(first, second, mask)

        addresses = _addresses(context, builder, rows, source, row, column, TILE_ROWS, TILE_CLASSES)
        vectors = [builder.load(address, align=rows.dtype.bitwidth // 8) for address in addresses]
        # Concatenate pairs until two vectors hold the tile.
        while len(vectors) > 2:
            whole = range(2 * vectors[0].type.count)
            vectors = [permuted(*pair, whole) for pair in zip(vectors[::2], vectors[1::2], strict=True)]
        first, second = (_llvm_widened(builder, rows.dtype, vector) for vector in vectors)
        addresses = _addresses(context, builder, columns, target, column, row, TILE_CLASSES, TILE_ROWS)
        for k, address in enumerate(addresses):
            lane_values = permuted(first, second, range(k, TILE_ROWS * TILE_CLASSES, TILE_CLASSES))
            builder.store(lane_values, address, align=columns.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(rows, types.intp, types.intp, columns), generate


def _addresses(
    context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any, count: int, length: int
) -> list[Any]:
    """The addresses of `count` vectors of `length` values in consecutive rows, the first one at array[row, column]."""
    fields = context.make_array(kind)(context, builder, array)
    stride = builder.extract_value(fields.strides, 0)
    start = builder.bitcast(builder.gep(fields.data, [column]), ir.IntType(8).as_pointer())
    start = builder.gep(start, [builder.mul(stride, row)])
    steps = [builder.mul(stride, ir.Constant(stride.type, k)) for k in range(count)]
    vector = ir.VectorType(fields.data.type.pointee, length)
    return [builder.bitcast(builder.gep(start, [step]), vector.as_pointer()) for step in steps]
