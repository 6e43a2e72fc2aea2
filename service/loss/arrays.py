"""Rows of logits and targets as numpy arrays and as tensors, in one memory.

The service takes and answers with arrays: making a tensor or letting it go hands the interpreter to another thread.
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
    """The array in the memory of a CPU tensor; an array is one."""
    if isinstance(rows, np.ndarray):
        return rows
    if rows.dtype == torch.bfloat16:
        return rows.view(torch.int16).numpy(force=True).view(bfloat16)
    return rows.numpy(force=True)


def as_tensor(rows: Rows) -> Tensor:
    """The tensor in the memory of an array, copied where that may not be written to; a tensor is one."""
    if isinstance(rows, Tensor):
        return rows
    array = rows if rows.flags.writeable else rows.copy()
    if array.dtype == bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
