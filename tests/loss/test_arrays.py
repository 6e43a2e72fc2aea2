"""Conversions between arrays and tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16

from service.loss.arrays import as_array, as_tensor

DTYPES = {
    torch.bfloat16: bfloat16,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (4,), (2, 3)])
def test_a_round_trip_shares_memory(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    array = as_array(tensor)
    assert (array.dtype, array.shape) == (np.dtype(DTYPES[dtype]), shape)
    assert array.astype(np.float64).tolist() == tensor.double().tolist()
    back = as_tensor(array)
    assert torch.equal(back, tensor)
    assert back.data_ptr() == tensor.data_ptr()


def test_arguments_of_the_result_type_are_returned() -> None:
    array, tensor = np.zeros(3), torch.zeros(3)
    assert as_array(array) is array
    assert as_tensor(tensor) is tensor


@pytest.mark.parametrize("dtype", [np.float32, bfloat16])
def test_read_only_memory_is_copied(dtype: type[np.generic]) -> None:
    array = np.frombuffer(bytes(8), dtype)
    tensor = as_tensor(array)
    tensor += 1
    assert array.tolist() == [0] * len(array)
    assert tensor.tolist() == [1] * len(array)


def test_a_column_of_a_parameter() -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    assert as_array(parameter[:, 1]).tolist() == [1, 4]
