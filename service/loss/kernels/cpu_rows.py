"""What the CPU computes of softmax logits, compiled for the machine's vectors by numba; see `fused_cpu` for its use.

A block is 64 lanes wide. Where rows are short a lane is a row; a long row lies across the lanes, step by step. Either
way the same few loops do the work over all classes, in float32 (float64 for float64 logits), and hand the sums of at
most 32 steps to float64; what is left of 64 rows then goes through the formula together, in float64.

exp and log are our own, without a branch, table or call: the math library's, called value by value, cost more than all
the rest. Nothing is reassociated, so that a row's result does not depend on the rows beside it.

All of it is one file because numba's cache looks at the file of the cached function only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED

LANES = 64
# Steps whose sum stays in float32: the rounding of a sum of 32 is below that of its terms' exponentials.
STEPS = 32
# Up to this many classes a row is a lane.
SHORT_ROW = 128
# What `transpose_tile` takes at once.
TILE_ROWS, TILE_CLASSES = 8, 4

# What a row of `values` holds; a caller that needs less gives fewer rows.
LOSS, ALPHA_T, LOG_LOSS, LOGIT_MARGIN, LOG_OTHERS, SQUARED, ENTROPY = range(7)
# What a row of `sums` holds.
SUMS = LOSS_SUM, ALPHA_SUM, NUM_COUNTED, NUM_BAD_TARGETS = range(4)

# A product may fuse with a sum. Division by zero gives what IEEE 754 says: an exception would forbid vectors. Nothing
# is allocated, and so no references are counted: atomic steps for every row of an array, a tenth of short rows' time.
VECTOR_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "_nrt": False}
_vector: Any = njit(**VECTOR_OPTIONS)
# Sums over 64 lanes, in whatever order the vectors make of them, which is the same for all rows.
_lanes_sum: Any = njit(**{**VECTOR_OPTIONS, "fastmath": {"contract", "reassoc"}})
_intrinsic: Any = intrinsic
_overload: Any = overload

# Added and taken away again, these round to the nearest integer, which then stands in the lowest bits of the sum; the
# biased one leaves a float32's exponent there.
_BIASED_ROUND_32, _ROUND_64 = np.float32(1.5 * 2**23 + 127), 1.5 * 2**52
_LOG2_E = 1.4426950408889634
# ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN_2, _SQRT_2 = math.log(2), math.sqrt(2)
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_TWO_TO_52_BITS = 0x4330000000000000

# exp of less is 0 in float64.
LOWEST = -750.0


def _llvm_type(kind: Any) -> Any:
    wide = kind.bitwidth
    return ir.IntType(wide) if isinstance(kind, types.Integer) else {32: ir.FloatType(), 64: ir.DoubleType()}[wide]


def _bitcast(source: Any, target: Any) -> Any:
    def typed(_typing: Any, _value: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], _llvm_type(target))

        return target(source), generate

    return _intrinsic(typed)


_bits_32, _from_bits_32 = _bitcast(types.float32, types.int32), _bitcast(types.int32, types.float32)
_bits_64, _from_bits_64 = _bitcast(types.float64, types.int64), _bitcast(types.int64, types.float64)


@_intrinsic
def stays_a_call(_typing: Any) -> Any:
    """In a function of loops: LLVM does not draw it into its caller, where it may give up its vectors."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate


@_intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Have the cache line of a contiguous array's element fetched; an index past the end does no harm."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        integer = ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, integer, integer, integer])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        # For reading, into the second-level cache, data.
        builder.call(function, [address, integer(0), integer(2), integer(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


def _llvm_widened(builder: Any, kind: Any, value: Any) -> Any:
    """What `widened` says, of a value or of a vector of them."""
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
    """float32 of a bfloat16 in an int16 or a float16 in an uint16; float32 and float64 as they are."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _llvm_widened(builder, value, args[0])

    return (value if isinstance(value, types.Float) else types.float32)(value), generate


@_intrinsic
def transpose_tile(_typing: Any, rows: Any, row: Any, column: Any, columns: Any) -> Any:
    """TILE_CLASSES values of each of TILE_ROWS rows, from a row and column on, widened, to columns[column:, row:].

    By shuffles of vectors: taken one by one, values cost a load and a store each.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, row, column, target = args

        def shuffled(first: Any, second: Any, mask: tuple[int, ...]) -> Any:
            return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), mask))

        places = _places(context, builder, rows, source, row, column, TILE_ROWS, TILE_CLASSES)
        loaded = [builder.load(place, align=rows.dtype.bitwidth // 8) for place in places]
        joined = [shuffled(loaded[k], loaded[k + 4], tuple(range(8))) for k in range(4)]
        vectors = [_llvm_widened(builder, rows.dtype, vector) for vector in joined]
        # Zipped twice, 4 rows of 4 values are 4 columns; here in each half of the vectors by itself.
        zips = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
        for _ in range(2):
            vectors = [shuffled(vectors[k], vectors[k + 2], mask) for k in range(2) for mask in zips]
        places = _places(context, builder, columns, target, column, row, TILE_CLASSES, TILE_ROWS)
        for vector, place in zip(vectors, places, strict=True):
            builder.store(vector, place, align=columns.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(rows, types.intp, types.intp, columns), generate


def _places(
    context: Any, builder: Any, kind: Any, array: Any, first: Any, second: Any, count: int, length: int
) -> list[Any]:
    """Where vectors of some length begin, one below the other, the uppermost at array[first, second]."""
    held = context.make_array(kind)(context, builder, array)
    stride = builder.extract_value(held.strides, 0)
    start = builder.bitcast(builder.gep(held.data, [second]), ir.IntType(8).as_pointer())
    start = builder.gep(start, [builder.mul(stride, first)])
    steps = [builder.mul(stride, ir.Constant(stride.type, k)) for k in range(count)]
    vector = ir.VectorType(_llvm_type(kind.dtype), length)
    return [builder.bitcast(builder.gep(start, [step]), vector.as_pointer()) for step in steps]


@_vector
def _exp_32(x: Any) -> Any:
    # 2^f on [-1/2, 1/2], fitted for the least relative error under p(0) = 1; in float32 it errs by 8e-8 at most.
    power = x * np.float32(_LOG2_E)
    rounded = power + _BIASED_ROUND_32
    f = power - (rounded - _BIASED_ROUND_32)
    p = np.float32(1.5353362e-4)
    p = p * f + np.float32(1.3398875e-3)
    p = p * f + np.float32(9.6184369e-3)
    p = p * f + np.float32(5.5503324e-2)
    p = p * f + np.float32(2.4022648e-1)
    p = p * f + np.float32(6.9314718e-1)
    p = p * f + np.float32(1)
    # A product, not a sum of exponents: that could turn a NaN into a number.
    return p * _from_bits_32(np.int32(_bits_32(rounded) << np.int32(23)))


@_vector
def _exp_64(x: Any) -> Any:
    n = (x * _LOG2_E + _ROUND_64) - _ROUND_64
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    # Taylor's series on |r| <= ln(2) / 2: what is left out is below 2^-56.
    p = 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r * r + r + 1
    # Two factors: one alone cannot reach the subnormal numbers.
    half = (n * 0.5 + _ROUND_64) - _ROUND_64
    return p * _power_of_two(half) * _power_of_two(n - half)


@_vector
def _power_of_two(n: Any) -> Any:
    return _from_bits_64(_bits_64(n + (_ROUND_64 + 1023)) << 52)


def exp(x: Any) -> Any:
    """e^x for x <= 0, float32 from -87 on, float64 from `LOWEST` on; NaN stays NaN."""
    raise NotImplementedError("for compiled code only")


@_overload(exp, jit_options=VECTOR_OPTIONS)
def _typed_exp(x: Any) -> Any:
    def single(x: Any) -> Any:
        return _exp_32(x)

    def double(x: Any) -> Any:
        return _exp_64(x)

    return single if x == types.float32 else double


@_vector
def log(x: Any) -> Any:
    """ln x for a normal float64 x > 0, about 1 unit in the last place; NaN for NaN and infinity."""
    # fdlibm's reduction to m in [sqrt(1/2), sqrt(2)) and its polynomial (e_log.c); 1024 keeps the exponent positive.
    bits = _bits_64(x) + (1024 << 52)
    exponent = np.uint64(bits - _SQRT_HALF_BITS) >> np.uint64(52)
    m = _from_bits_64(bits - np.int64(exponent << np.uint64(52)))
    k = _from_bits_64(np.int64(exponent | np.uint64(_TWO_TO_52_BITS))) - (2.0**52 + 1024)
    return k * _LN_2_HIGH + (_log_near_one(m - 1) + k * _LN_2_LOW) + (x - x)


@_vector
def log1p(x: Any) -> Any:
    """ln(1 + x) for 0 <= x <= 1, float64, with the relative error of `log`; NaN stays NaN."""
    # Above sqrt(2) - 1 by ln 2 + ln((1 + x) / 2).
    small = x < _SQRT_2 - 1
    return (0.0 if small else _LN_2) + _log_near_one(x if small else (x - 1) * 0.5)


@_vector
def _log_near_one(f: Any) -> Any:
    """ln(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2): fdlibm's polynomial (e_log.c)."""
    s = f / (2 + f)
    z = s * s
    p = 1.479819860511658591e-01
    p = p * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half_square = 0.5 * f * f
    return f - (half_square - s * (half_square + p * z))


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled on its first call, without the GIL, and kept on disk where numba finds a place to write to."""
    options: dict[str, Any] = {"nogil": True, **VECTOR_OPTIONS}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)


@compiled
def score_rows(
    logits: Any,
    targets: Any,
    gamma: float,
    alphas: Any,
    has_ignored: bool,
    ignored: int,
    values: Any,
    state: Any,
    prediction: Any,
    sums: Any,
    space: Any,
    lanes: Any,
    whole: Any,
    start: int,
    stop: int,
) -> None:
    """Rows from `start` to `stop`, into values (2 to 7, N) float64, state (N,) int8, prediction (N,) or (0,) int64.

    Or, where values are (2, 0), into sums (4, N / 64 rounded up) float64 of each 64 rows. It works in space (32 + steps
    + 4, 64) of the type that it computes in, lanes (17, 64) float64 and whole (3, 64) int64.
    """
    num_classes = logits.shape[1]
    moments, positions = len(values) > SQUARED, len(prediction) > 0
    short = num_classes <= SHORT_ROW
    known, kind, position = whole[0], whole[1], whole[2]
    # Of 64 rows: the target's logit, the largest other one, and the sums of w, w^2 and w log w over the others.
    row, across, work = lanes[:5], lanes[5:8], lanes[8:]
    work[ALPHA_T] = 1
    # In this order: a store to the weights is then never taken for one to the block, whose address ends alike.
    weights, block, partial, top = space[:STEPS], space[STEPS:-4], space[-4:-1], space[-1]
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        _look_up(targets[first : first + count], num_classes, has_ignored, ignored, known, kind)
        if short:
            _load_rows(logits[first : first + count], known, block, row[0])
            _maxima(block, top)
            for lane in range(count):
                row[1, lane] = top[lane]
            if positions:
                _positions(block, top, position)
                for lane in range(count):
                    prediction[first + lane] = position[lane]
            _sums(block, top, weights, partial, row[2:], moments)
        else:
            for lane in range(count):
                row[0, lane] = _load_row(logits[first + lane], known[lane], block)
                _maxima(block, top)
                row[1, lane] = _largest(top)
                if positions:
                    prediction[first + lane] = _first_position(block, row[1, lane])
                top[:] = row[1, lane]
                _sums(block, top, weights, partial, across, moments)
                for k in range(3 if moments else 1):
                    row[2 + k, lane] = _sum(across[k])
        if positions:
            _with_target(row, known, prediction[first : first + count])
        _finish(row, known, kind, gamma, alphas, work, len(values))
        if values.shape[1] > 0:
            _keep_rows(work, kind, values[:, first : first + count], state[first : first + count])
        else:
            _add_rows(work, kind, sums[:, first // LANES])


@_vector
def _look_up(targets: Any, num_classes: int, has_ignored: bool, ignored: int, known: Any, state: Any) -> None:
    """The states of 64 rows by their targets, and targets to look up; what is past the last row is ignored."""
    state[:], known[:] = IGNORED, 0
    for lane in range(len(targets)):
        target = targets[lane]
        counts = 0 <= target < num_classes
        known[lane] = target if counts else 0
        state[lane] = IGNORED if has_ignored and target == ignored else COUNTED if counts else BAD_TARGET


@_vector
def _load_rows(logits: Any, targets: Any, block: Any, target_logit: Any) -> None:
    """Short rows into lanes; the target's logit is taken out and masked."""
    stays_a_call()
    _transpose(logits, block)
    for lane in range(len(logits)):
        # Numbers without a sign are not looked at for counting from the end.
        target = np.uintp(targets[lane])
        target_logit[lane] = block[target, lane]
        block[target, lane] = -np.inf


@_vector
def _transpose(logits: Any, block: Any) -> None:
    """Rows become lanes, tile by tile; the last tile of a row or of all rows begins as early as it must to fit."""
    count, num_classes = logits.shape
    if count < TILE_ROWS or num_classes < TILE_CLASSES:
        for k in range(num_classes):
            for lane in range(count):
                block[k, lane] = widened(logits[lane, k])
        return
    for lane in range(0, count, TILE_ROWS):
        for k in range(0, num_classes, TILE_CLASSES):
            transpose_tile(logits, min(lane, count - TILE_ROWS), min(k, num_classes - TILE_CLASSES), block)


@_vector
def _load_row(row: Any, target: int, block: Any) -> Any:
    """One long row across the lanes; the target's logit is taken out, returned and masked."""
    stays_a_call()
    flat = block.reshape(block.size)
    for j in range(len(row), 2 * len(row), 16):
        prefetch(row, j)
    for j in range(len(row)):
        flat[j] = widened(row[j])
    flat[len(row) :] = -np.inf
    target_logit = flat[target]
    flat[target] = -np.inf
    return target_logit


@_vector
def _maxima(block: Any, top: Any) -> None:
    """The largest value of each lane; NaN is passed over here, the sums find it."""
    stays_a_call()
    top[:] = -np.inf
    for k in range(len(block)):
        for lane in range(LANES):
            top[lane] = block[k, lane] if block[k, lane] > top[lane] else top[lane]


@_vector
def _largest(lanes: Any) -> Any:
    """The largest of 64; overwrites them. Halves at a time: one after the other, each would wait for the last."""
    for half in (32, 16, 8, 4, 2, 1):
        for lane in range(half):
            lanes[lane] = lanes[lane + half] if lanes[lane + half] > lanes[lane] else lanes[lane]
    return lanes[0]


@_lanes_sum
def _sum(lanes: Any) -> Any:
    """The sum of 64."""
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@_vector
def _positions(block: Any, top: Any, position: Any) -> None:
    """The first step at which each lane has its largest value."""
    stays_a_call()
    for k in range(len(block) - 1, -1, -1):
        for lane in range(LANES):
            position[lane] = k if block[k, lane] == top[lane] else position[lane]


@_vector
def _first_position(block: Any, largest: Any) -> int:
    """The first place of a value in a row that lies across the lanes."""
    flat = block.reshape(block.size)
    for j in range(len(flat)):
        if flat[j] == largest:
            return j
    return 0


@_vector
def _with_target(row: Any, targets: Any, prediction: Any) -> None:
    """Predictions over the other classes become those over all: the smallest index of the largest logit."""
    for lane in range(len(prediction)):
        target_logit, largest = row[0, lane], row[1, lane]
        if target_logit > largest or (target_logit == largest and targets[lane] < prediction[lane]):
            prediction[lane] = targets[lane]


@_vector
def _sums(block: Any, top: Any, weights: Any, partial: Any, sums: Any, moments: bool) -> None:
    """The sums of w, w^2 and w log w of each lane, with w = exp(x - top); the block gets log w."""
    sums[:] = 0
    for lane in range(LANES):
        # Where all are masked there is nothing to subtract.
        top[lane] = 0.0 if top[lane] == -np.inf else top[lane]
    for begin in range(0, len(block), STEPS):
        log_weights = block[begin : begin + STEPS]
        _exponentials(log_weights, top, weights)
        _add_up(log_weights, weights, partial, moments)
        for k in range(3 if moments else 1):
            for lane in range(LANES):
                sums[k, lane] += partial[k, lane]


@_vector
def _exponentials(log_weights: Any, shift: Any, weights: Any) -> None:
    stays_a_call()
    for k in range(len(log_weights)):
        for lane in range(LANES):
            below = log_weights[k, lane] - shift[lane]
            # Far enough below a sum that is at least 1, and above the subnormal numbers.
            log_weights[k, lane] = -87.0 if below < -87.0 else below
    flat, flat_weights = log_weights.reshape(log_weights.size), weights.reshape(weights.size)
    for j in range(len(flat)):
        flat_weights[j] = exp(flat[j])


@_vector
def _add_up(log_weights: Any, weights: Any, partial: Any, moments: bool) -> None:
    stays_a_call()
    partial[:] = 0
    for k in range(len(log_weights)):
        for lane in range(LANES):
            partial[0, lane] += weights[k, lane]
        if moments:
            for lane in range(LANES):
                partial[1, lane] += weights[k, lane] * weights[k, lane]
            for lane in range(LANES):
                partial[2, lane] += weights[k, lane] * log_weights[k, lane]


@_vector
def _finish(row: Any, targets: Any, state: Any, gamma: float, alphas: Any, work: Any, wanted: int) -> None:
    """From the sums of 64 rows to their state and to as many of their values as are wanted."""
    z, cross_entropy = work[ENTROPY + 1], work[ENTROPY + 2]
    _log_odds(row, work[LOGIT_MARGIN], work[LOG_OTHERS], z)
    for lane in range(len(state)):
        alone = (row[1, lane] == -np.inf) & (abs(row[0, lane]) < np.inf) & (z[lane] == np.inf)
        valid = alone | (abs(z[lane]) < np.inf)
        state[lane] = state[lane] if valid | (state[lane] != COUNTED) else BAD_LOGIT
    _losses(z, gamma, cross_entropy, work[LOSS], work[LOG_LOSS], wanted > LOG_LOSS)
    if alphas.shape[1] > 0:
        for lane in range(LANES):
            work[ALPHA_T, lane] = alphas[0, targets[lane]]
            work[LOSS, lane] *= work[ALPHA_T, lane]
            work[LOG_LOSS, lane] += alphas[1, targets[lane]]
    if wanted > SQUARED:
        _moments(row[2:], work[LOG_OTHERS], work[SQUARED], work[ENTROPY])


@_vector
def _log_odds(row: Any, margin: Any, log_others: Any, z: Any) -> None:
    stays_a_call()
    target_logit, largest, total = row[0], row[1], row[2]
    for lane in range(LANES):
        margin[lane] = np.inf if largest[lane] == -np.inf else target_logit[lane] - largest[lane]
    for lane in range(LANES):
        # Of a row whose others are all masked only whether there is a NaN in it.
        log_others[lane] = log(1 + (total[lane] - total[lane]) if largest[lane] == -np.inf else total[lane])
    for lane in range(LANES):
        z[lane] = margin[lane] - log_others[lane]


@_vector
def _losses(z: Any, gamma: float, cross_entropy: Any, loss: Any, log_focus: Any, with_log: bool) -> None:
    """`focal_from_log_odds`, and `log_focal_from_log_odds` in the place of the logarithm of the focusing factor."""
    stays_a_call()
    for lane in range(LANES):
        # log(1 + exp(-|z|)), the part that softplus(z) and softplus(-z) share.
        below = -abs(z[lane])
        cross_entropy[lane] = log1p(exp(LOWEST if below < LOWEST else below))
    for lane in range(LANES):
        log_focus[lane] = -gamma * (cross_entropy[lane] + (z[lane] if z[lane] > 0 else 0.0)) if gamma > 0 else 0.0
    for lane in range(LANES):
        cross_entropy[lane] -= z[lane] if z[lane] < 0 else 0.0
    for lane in range(LANES):
        loss[lane] = cross_entropy[lane] * exp(LOWEST if log_focus[lane] < LOWEST else log_focus[lane])
    if with_log:
        for lane in range(LANES):
            # softplus(-z) is exp(-z) to the last bit of float64 from z = 37 on, and 0 in it from z = 745.
            log_focus[lane] += -z[lane] if z[lane] > 37 else log(cross_entropy[lane])


@_vector
def _moments(sums: Any, log_total: Any, squared: Any, entropy: Any) -> None:
    for lane in range(LANES):
        # Of no others there is no sum, and nothing to be uncertain about.
        total = sums[0, lane] if sums[0, lane] >= 1 else 1.0
        squared[lane] = sums[1, lane] / (total * total)
        entropy[lane] = max(log_total[lane] - sums[2, lane] / total, 0.0)


@_vector
def _keep_rows(work: Any, kind: Any, values: Any, state: Any) -> None:
    for k in range(len(values)):
        for lane in range(len(state)):
            values[k, lane] = work[k, lane]
    for lane in range(len(state)):
        state[lane] = kind[lane]


@_lanes_sum
def _add_rows(work: Any, state: Any, sums: Any) -> None:
    """The sums of 64 rows, of those that are not ignored."""
    stays_a_call()
    loss, alpha, counted, bad = 0.0, 0.0, 0, 0
    for lane in range(len(state)):
        counts = state[lane] != IGNORED
        loss += work[LOSS, lane] if counts else 0.0
        alpha += work[ALPHA_T, lane] if counts else 0.0
        counted += counts
        bad += state[lane] == BAD_TARGET
    sums[LOSS_SUM], sums[ALPHA_SUM], sums[NUM_COUNTED], sums[NUM_BAD_TARGETS] = loss, alpha, counted, bad
