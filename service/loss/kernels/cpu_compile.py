"""Compilation of the CPU kernels: numba's options, the cache on disk, and a way to prevent inlining."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba import njit, types
from numba.extending import intrinsic

# A product may fuse with a sum. Division by zero follows IEEE 754, because raising an exception would prevent
# vectorization. Nothing is allocated, so reference counting is off: it costs atomic instructions per array slice, a
# tenth of the time of short rows.
VECTOR_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "_nrt": False}
# Decorators of functions that only compiled functions call.
vector: Any = njit(**VECTOR_OPTIONS)
# For sums over lanes: LLVM may reorder them, in the same way for all rows.
vector_sum: Any = njit(**{**VECTOR_OPTIONS, "fastmath": {"contract", "reassoc"}})
_intrinsic: Any = intrinsic


def compiled(*helpers: ModuleType, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile on the first call, release the GIL, and cache the machine code on disk if possible.

    Args:
        helpers: The other modules whose compiled functions this function calls. numba invalidates a cache entry only
            when the file of the cached function changes, so a checksum of these modules becomes part of the name that
            the entry is stored under.
        options: For numba's `njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            sources = "".join(map(inspect.getsource, helpers))
            function.__qualname__ += f"_{zlib.crc32(sources.encode()):08x}"
            return njit(cache=True, nogil=True, **options)(function)
        except (OSError, RuntimeError):
            # There are no source files, or no directory is writable.
            return njit(nogil=True, **options)(function)

    return decorate


@_intrinsic
def never_inline(_typing: Any) -> Any:
    """Mark the function that calls this as `noinline` for LLVM: if it is inlined, its loops may not be vectorized."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate
