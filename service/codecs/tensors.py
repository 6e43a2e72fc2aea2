"""Tensors out of a request's body."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from service.codecs.base import Body


def tensor_view(body: Body, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor in the bytes of a body: a view where the offset is aligned, else a copy.

    Args:
        body: Holds at least the tensor's bytes behind the offset; little-endian, row by row.
        offset: Bytes before it.
        dtype: Of the tensor.
        shape: Of the tensor.
    """
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.frombuffer(body, dtype=torch.uint8, count=count * dtype.itemsize, offset=offset)
    if tensor.data_ptr() % dtype.itemsize:
        tensor = tensor.clone()
    return tensor.view(dtype).reshape(shape)
