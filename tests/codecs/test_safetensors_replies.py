"""Replies as safetensors files: the library reads them, and they hold the result."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch

from service.codecs.safetensors import DTYPES, SafetensorsCodec
from service.errors import ShapeError
from service.formats.safetensors import read_safetensors
from service.schema.result import BatchResult, LossResult
from tests.codecs.samples import result

CODEC = SafetensorsCodec()


def read_by_the_library(body: bytes) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    length = int.from_bytes(body[:8], "little")
    return safetensors.numpy.load(body), json.loads(body[8 : 8 + length])["__metadata__"]


GOLDEN_REPLY_HEADER = (
    b'{"__metadata__":{"config_id":"fl_0123456789abcdef","device":"cpu",'
    b'"hardest":"[{\\"batch\\":0,\\"index\\":0,\\"id\\":\\"a\\",\\"loss\\":0.5,\\"contribution\\":0.5},'
    b'{\\"batch\\":1,\\"index\\":0,\\"loss\\":0.25,\\"contribution\\":0.25}]",'
    b'"excluded":"[{\\"batch\\":0,\\"index\\":2,\\"id\\":7,\\"code\\":\\"invalid_logit\\",\\"msg\\":\\"NaN\\"}]"},'
    b'"batch_alpha_sum":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},'
    b'"batch_loss":{"dtype":"F64","shape":[2],"data_offsets":[16,32]},'
    b'"batch_loss_sum":{"dtype":"F64","shape":[2],"data_offsets":[32,48]},'
    b'"batch_num_elements":{"dtype":"I64","shape":[2],"data_offsets":[48,64]},'
    b'"batch_num_examples":{"dtype":"I64","shape":[2],"data_offsets":[64,80]},'
    b'"batch_num_excluded":{"dtype":"I64","shape":[2],"data_offsets":[80,96]},'
    b'"batch_num_ignored":{"dtype":"I64","shape":[2],"data_offsets":[96,112]},'
    b'"loss":{"dtype":"F64","shape":[],"data_offsets":[112,120]},'
    b'"per_example.prediction":{"dtype":"I64","shape":[4],"data_offsets":[120,152]},'
    b'"per_example.loss":{"dtype":"F32","shape":[4],"data_offsets":[152,168]},'
    b'"per_example.p_t":{"dtype":"F32","shape":[4],"data_offsets":[168,184]}}'
)
GOLDEN_REPLY_DATA = b"".join(
    [
        struct.pack("<2d", 1.0, 0.0),
        struct.pack("<2d", 0.5, np.nan),
        struct.pack("<2d", 0.5, 0.25),
        struct.pack("<2q", 1, 1),
        struct.pack("<2q", 3, 1),
        struct.pack("<2q", 1, 0),
        struct.pack("<2q", 1, 0),
        struct.pack("<d", 0.5),
        struct.pack("<4q", 1, -1, -1, 0),
        struct.pack("<4f", 0.5, 0.0, np.nan, 0.25),
        struct.pack("<4f", 0.75, np.nan, np.nan, 0.125),
    ]
)


class TestEncode:
    def test_golden_bytes(self) -> None:
        body = CODEC.encode(result())
        length = int.from_bytes(body[:8], "little")
        assert length % 8 == 0
        assert body[8 : 8 + length].rstrip(b" ") == GOLDEN_REPLY_HEADER
        assert body[8 + length :] == GOLDEN_REPLY_DATA

    def test_the_library_reads_it(self) -> None:
        tensors, metadata = read_by_the_library(CODEC.encode(result()))
        assert tensors["loss"].shape == ()
        assert tensors["loss"] == 0.5
        assert tensors["batch_loss"].tolist()[0] == 0.5
        assert np.isnan(tensors["batch_loss"][1])
        assert tensors["batch_num_examples"].tolist() == [3, 1]
        assert tensors["per_example.prediction"].tolist() == [1, -1, -1, 0]
        assert tensors["per_example.loss"].dtype == np.float32
        assert np.array_equal(tensors["per_example.p_t"], np.float32([0.75, np.nan, np.nan, 0.125]), equal_nan=True)
        assert metadata["config_id"] == "fl_0123456789abcdef"
        assert metadata["device"] == "cpu"
        assert json.loads(metadata["hardest"])[0]["id"] == "a"
        assert json.loads(metadata["excluded"])[0]["id"] == 7

    def test_own_reader_reads_it(self) -> None:
        body = CODEC.encode(result())
        tensors, metadata = read_safetensors(bytearray(body))
        of_the_library, metadata_of_the_library = read_by_the_library(body)
        assert metadata == metadata_of_the_library
        assert tensors.keys() == of_the_library.keys()
        for name, tensor in tensors.items():
            assert np.array_equal(tensor, of_the_library[name], equal_nan=True)

    def test_every_tensor_is_aligned(self) -> None:
        body = CODEC.encode(result())
        length = int.from_bytes(body[:8], "little")
        header = json.loads(body[8 : 8 + length])
        del header["__metadata__"]
        for name, entry in header.items():
            assert (8 + length + entry["data_offsets"][0]) % DTYPES[entry["dtype"]].itemsize == 0, name

    def test_a_null_loss_is_nan(self) -> None:
        tensors, _ = read_by_the_library(CODEC.encode(LossResult("fl_0", "cpu", None, 0, 0, 0, ())))
        assert np.isnan(tensors["loss"])
        assert tensors["batch_loss"].shape == (0,)

    def test_empty_batches(self) -> None:
        nothing = {"loss": np.empty(0, np.float32), "prediction": np.empty(0, np.int64)}
        batch = BatchResult(None, 0.0, 0.0, 0, 0, 0, nothing)
        tensors, _ = read_by_the_library(CODEC.encode(LossResult("fl_0", "cpu", None, 0, 0, 0, (batch, batch))))
        assert tensors["per_example.loss"].shape == (0,)
        assert tensors["batch_num_examples"].tolist() == [0, 0]

    def test_predictions_of_labels_keep_their_second_dimension(self) -> None:
        labels = np.array([[1, 0, -1], [-1, -1, -1]])
        tensors, _ = read_by_the_library(CODEC.encode(result(per_example={"prediction": labels})))
        assert tensors["per_example.prediction"].tolist() == labels.tolist()

    def test_batches_with_different_numbers_of_labels_are_rejected(self) -> None:
        batches = tuple(
            BatchResult(0.0, 0.0, 0.0, 2, 0, 0, {"prediction": np.zeros(shape, np.int64)})
            for shape in ((2, 3), (2, 3), (2,))
        )
        with pytest.raises(ShapeError) as caught:
            CODEC.encode(LossResult("fl_0", "cpu", 0.0, 6, 0, 0, batches))
        assert caught.value.errors[0]["loc"] == ["batches", 2, "logits"]

    def test_batches_of_two_float_dtypes_become_the_wider_one(self) -> None:
        batches = tuple(
            BatchResult(0.0, 0.0, 0.0, 1, 0, 0, {"loss": np.array([0.1], dtype)}) for dtype in (np.float32, np.float64)
        )
        tensors, _ = read_by_the_library(CODEC.encode(LossResult("fl_0", "cpu", 0.0, 2, 0, 0, batches)))
        assert tensors["per_example.loss"].tolist() == [float(np.float32(0.1)), 0.1]

    def test_columns_that_are_not_contiguous(self) -> None:
        column = np.arange(10, dtype=np.float32)[::2]
        tensors, _ = read_by_the_library(CODEC.encode(result(per_example={"loss": column})))
        assert tensors["per_example.loss"].tolist() == [0, 2, 4, 6, 8]
