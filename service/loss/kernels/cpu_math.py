"""exp, log and log1p for compiled loops, which LLVM can vectorize.

They have no branch, table or call. The math library's functions, called value by value, would take longer than all
the rest of the loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from service.loss.kernels.cpu_compile import VECTOR_OPTIONS, vector

_overload: Any = overload

# Adding and then subtracting one of these rounds to the nearest integer, which is then in the lowest bits of the sum.
# With the biased one these bits are the exponent field of a float32.
_BIASED_ROUND_32, _ROUND_64 = np.float32(1.5 * 2**23 + 127), 1.5 * 2**52
_LOG2_E = 1.4426950408889634
# ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN_2, _SQRT_2 = math.log(2), math.sqrt(2)
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_TWO_TO_52_BITS = 0x4330000000000000

# exp of a smaller number is 0 in float64.
LOWEST = -750.0


@vector
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
    # A product: adding exponents could turn a NaN into a number.
    return p * np.int32(np.float32(rounded).view(np.int32) << np.int32(23)).view(np.float32)


@vector
def _exp_64(x: Any) -> Any:
    n = (x * _LOG2_E + _ROUND_64) - _ROUND_64
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    # Taylor series on |r| <= ln(2) / 2 with a remainder below 2^-56.
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
    # Two factors, so that subnormal results are possible.
    half = (n * 0.5 + _ROUND_64) - _ROUND_64
    return p * _power_of_two(half) * _power_of_two(n - half)


@vector
def _power_of_two(n: Any) -> Any:
    return np.int64(np.float64(n + (_ROUND_64 + 1023)).view(np.int64) << 52).view(np.float64)


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


@vector
def log(x: Any) -> Any:
    """ln x for a normal float64 x > 0, with an error of about 1 unit in the last place; NaN for NaN and infinity."""
    # fdlibm's reduction to m in [sqrt(1/2), sqrt(2)) and its polynomial (e_log.c); 1024 keeps the exponent positive.
    bits = np.float64(x).view(np.int64) + (1024 << 52)
    exponent = np.uint64(bits - _SQRT_HALF_BITS) >> np.uint64(52)
    m = np.int64(bits - np.int64(exponent << np.uint64(52))).view(np.float64)
    k = np.uint64(exponent | np.uint64(_TWO_TO_52_BITS)).view(np.float64) - (2.0**52 + 1024)
    return k * _LN_2_HIGH + (_log_near_one(m - 1) + k * _LN_2_LOW) + (x - x)


@vector
def log1p(x: Any) -> Any:
    """ln(1 + x) for 0 <= x <= 1, float64, with the relative error of `log`; NaN stays NaN."""
    # For x above sqrt(2) - 1: ln 2 + ln((1 + x) / 2).
    small = x < _SQRT_2 - 1
    return (0.0 if small else _LN_2) + _log_near_one(x if small else (x - 1) * 0.5)


@vector
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
