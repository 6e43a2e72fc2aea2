"""The safetensors format against the library that defines it; hostile files are in tests/codecs."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from service.formats.safetensors import (
    BFLOAT16_BITS,
    DTYPES,
    NAMES,
    Tensor,
    as_numbers,
    file_parts,
    parse_header,
    read_safetensors,
    write_safetensors,
)

ARRAYS = {name: np.arange(6).reshape(2, 3).astype(dtype) for name, dtype in DTYPES.items() if dtype.kind != "V"}


class TestWriting:
    def test_the_library_reads_every_dtype(self) -> None:
        content = write_safetensors(ARRAYS, {"b": "1", "a": "é"})
        tensors = safetensors.torch.load(content)
        assert tensors.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert tensors[name].tolist() == array.tolist(), name

    def test_the_library_reads_bfloat16(self) -> None:
        values = torch.tensor([[1.5, -2.0], [torch.inf, 0.1]]).bfloat16()
        data = memoryview(bytes(values.view(torch.int16).numpy()))
        content = b"".join(file_parts({"logits": Tensor("BF16", (2, 2), data)}, {}))
        assert safetensors.torch.load(content)["logits"].equal(values)

    def test_same_bytes_whatever_the_order_of_the_tensors(self) -> None:
        content = write_safetensors(ARRAYS, {"b": "1", "a": "2"})
        assert write_safetensors(dict(reversed(ARRAYS.items())), {"b": "1", "a": "2"}) == content

    def test_every_tensor_is_aligned(self) -> None:
        content = write_safetensors(
            {"x": np.ones(3, np.uint8), "y": np.ones(1, np.float64), "z": np.ones(3, "<f4")}, {}
        )
        length = int.from_bytes(content[:8], "little")
        for entry in parse_header(content[8 : 8 + length]).entries:
            assert (8 + length + entry.begin) % entry.dtype.itemsize == 0

    def test_columns_of_a_matrix_are_written_in_c_order(self) -> None:
        matrix = np.arange(6.0).reshape(2, 3)
        assert safetensors.torch.load(write_safetensors({"x": matrix.T}, {}))["x"].tolist() == matrix.T.tolist()

    def test_a_contiguous_array_is_not_copied(self) -> None:
        array = np.zeros(4)
        tensor = Tensor.of(array)
        array[0] = 1
        assert bytes(tensor.data) == array.tobytes()


class TestReading:
    def test_files_of_the_library(self) -> None:
        names = {"F32": torch.float32, "BF16": torch.bfloat16, "I64": torch.int64, "BOOL": torch.bool}
        saved = {name: torch.arange(6).reshape(2, 3).to(dtype) for name, dtype in names.items()}
        tensors, metadata = read_safetensors(safetensors.torch.save(saved, {"key": "value"}))
        assert metadata == {"key": "value"}
        assert tensors["BF16"].dtype == BFLOAT16_BITS
        for name, tensor in saved.items():
            assert as_numbers(tensors[name]).tolist() == tensor.tolist()

    def test_a_mapped_file_is_not_copied(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(write_safetensors({"x": np.arange(4.0)}, {}))
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        tensors, _ = read_safetensors(content)
        assert np.shares_memory(tensors["x"], np.frombuffer(content, np.uint8))

    def test_dtypes_can_be_limited(self) -> None:
        header = json.dumps({"x": {"dtype": "U16", "shape": [0], "data_offsets": [0, 0]}}).encode()
        assert parse_header(header).entries[0].dtype == np.uint16
        with pytest.raises(ValueError, match="'U16', accepted are F32"):
            parse_header(header, dtypes={"F32": DTYPES["F32"]})


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -3.140625, 3.3895313892515355e38, 9.183549615799121e-41, np.inf, np.nan]
)
def test_bfloat16_bits_as_numbers(value: float) -> None:
    bits = torch.tensor([value], dtype=torch.float32).bfloat16().view(torch.int16).numpy().view(BFLOAT16_BITS)
    (number,) = as_numbers(bits)
    assert number == value or np.isnan(value)
    assert np.isnan(number) == np.isnan(value)


def test_only_numbers_have_a_name_to_write() -> None:
    assert set(NAMES.values()) == DTYPES.keys() - {"BF16"}
