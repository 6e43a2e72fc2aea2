"""Chunks of elements that have one of C classes each: tokens or pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.diagnostics.chunks import Integers

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Part:
    """Elements whose logits are one matrix.

    Args:
        targets: (S,) int64 in [0, C), -1 for an ignored element.
        logits: (C, S), or (S, C) if `by_rows`, contiguous float32 or float64.
        by_rows: The layout of the logits.
    """

    targets: Integers
    logits: Logits
    by_rows: bool


@dataclass(frozen=True, eq=False)
class ElementChunk:
    """Some elements of a data set.

    Args:
        targets: (n, S) int64 in [0, C), -1 for an ignored element.
        logits: (n, C, S), or (1, S, C) if `by_rows`; finite, or -inf in a masked class, which is never the target.
        by_rows: The layout of the logits.

    Raises:
        ValueError: The shapes differ, or a target is not in [-1, C).
    """

    targets: Integers
    logits: Logits
    by_rows: bool = False

    def __post_init__(self) -> None:
        shape = self.logits.shape
        elements = (shape[0], shape[1 if self.by_rows else 2]) if len(shape) == 3 else None
        if self.targets.shape != elements:
            raise ValueError(f"targets of shape {self.targets.shape} and logits of shape {shape} do not fit")
        if self.targets.size and not -1 <= self.targets.min() <= self.targets.max() < self.num_classes:
            raise ValueError(f"targets must lie in [0, {self.num_classes})")

    @classmethod
    def of_tokens(cls, targets: NDArray[Any], logits: Logits, ignore_index: int | None = -100) -> ElementChunk:
        """The chunk of T tokens: `targets` (T,) integers, `logits` (T, C)."""
        return cls(_without_ignored(targets[None], ignore_index), logits[None], by_rows=True)

    @classmethod
    def of_masks(cls, targets: NDArray[Any], logits: Logits, ignore_index: int | None = 255) -> ElementChunk:
        """The chunk of n masks or volumes: `targets` (n, d1, ..., dk) integers, `logits` (n, C, d1, ..., dk)."""
        if targets.shape != logits.shape[:1] + logits.shape[2:]:
            raise ValueError(f"targets of shape {targets.shape} and logits of shape {logits.shape} do not fit")
        flat = targets.reshape(len(targets), -1), logits.reshape(*logits.shape[:2], -1)
        return cls(_without_ignored(flat[0], ignore_index), flat[1])

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.logits.shape[2 if self.by_rows else 1])

    def parts(self) -> Iterator[Part]:
        """Yield the elements in the order of the targets."""
        for targets, logits in zip(self.targets, self.logits, strict=True):
            yield Part(for_kernels(targets), for_kernels(wide(logits)), self.by_rows)


ElementChunks = Callable[[], Iterable[ElementChunk]]
"""Each call starts another pass over the same elements in the same order."""


def wide(logits: Logits) -> Logits:
    """The logits as float32 or float64."""
    return logits if logits.dtype in {np.dtype(np.float32), np.dtype(np.float64)} else logits.astype(np.float32)


def for_kernels(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy for which numba compiles no kernel again: contiguous, aligned and writable."""
    return np.require(array, requirements=("C", "A", "W"))


def _without_ignored(targets: NDArray[Any], ignore_index: int | None) -> Integers:
    classes: Integers = targets.astype(np.int64)
    return classes if ignore_index is None else np.where(classes == ignore_index, -1, classes)
