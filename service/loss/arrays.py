"""Rows of logits and targets as numpy arrays and as tensors that share memory.

The service uses arrays: creating or freeing a tensor releases the GIL, which costs small requests time.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from ml_dtypes import bfloat16
from torch import Tensor

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Rows: TypeAlias = Array | Tensor


def as_array(rows: Rows) -> Array:
    """A numpy array that shares the memory of a CPU tensor; an array is returned as it is."""
    if isinstance(rows, np.ndarray):
        return rows
    if rows.dtype == torch.bfloat16:
        return rows.view(torch.int16).numpy(force=True).view(bfloat16)
    return rows.numpy(force=True)


def as_tensor(rows: Rows) -> Tensor:
    """A tensor that shares the memory of an array, a copy if it is read-only; a tensor is returned as it is."""
    if isinstance(rows, Tensor):
        return rows
    array = rows if rows.flags.writeable else rows.copy()
    if array.dtype == bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
