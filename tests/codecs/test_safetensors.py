"""`application/x-safetensors`: requests, also of the library, and replies."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from service.codecs.safetensors import DTYPES, SafetensorsCodec
from service.errors import InvalidIdsError, InvalidRequestError, LossServiceError
from service.formats.safetensors import write_safetensors
from service.loss.arrays import as_tensor
from service.schema.config import LossConfig
from service.schema.request import Column, LossRequest
from tests.codecs.outcomes import error_of

CODEC = SafetensorsCodec()
LOGITS = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, -8.0]])
TARGETS = torch.tensor([2, 0])


def decode(tensors: dict[str, Tensor], request: Any = None, **metadata: str) -> LossRequest:
    if request is not None:
        metadata["request"] = json.dumps(request)
    return CODEC.decode(bytearray(safetensors.torch.save(tensors, metadata or None)))


def decode_error(tensors: dict[str, Tensor], request: Any = None, **metadata: str) -> LossServiceError:
    if request is not None:
        metadata["request"] = json.dumps(request)
    return error_of(CODEC, safetensors.torch.save(tensors, metadata or None))


GOLDEN_REQUEST_HEADER = (
    b'{"__metadata__":{"format":"pt","request":"{\\"config\\":{\\"gamma\\":1.5},\\"top_k\\":2,\\"ids\\":[\\"a\\",5]}"},'
    b'"logits":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},'
    b'"targets":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}'
)
GOLDEN_REQUEST = (
    struct.pack("<Q", len(GOLDEN_REQUEST_HEADER) + 3)
    + GOLDEN_REQUEST_HEADER
    + b"   "
    + struct.pack("<2q", 2, 0)
    + struct.pack("<6f", 0.5, -1.0, 2.0, 3.0, 0.25, -8.0)
)


class TestDecode:
    def test_golden_bytes(self) -> None:
        request = CODEC.decode(bytearray(GOLDEN_REQUEST))
        assert request.options.config == LossConfig(gamma=1.5)
        assert request.options.top_k == 2
        (batch,) = request.batches
        assert torch.equal(as_tensor(batch.logits), LOGITS)
        assert torch.equal(as_tensor(batch.targets), TARGETS)
        assert batch.ids == ["a", 5]

    @pytest.mark.parametrize("more", [-1, 1])
    def test_data_is_checked_with_a_cached_header(self, more: int) -> None:
        CODEC.decode(bytearray(GOLDEN_REQUEST))
        other = (GOLDEN_REQUEST + b"\0")[: len(GOLDEN_REQUEST) + more]
        assert f"the data has {40 + more} bytes" in error_of(CODEC, other).detail
        assert CODEC.decode(bytearray(GOLDEN_REQUEST)).batches[0].ids == ["a", 5]

    def test_header_too_long_for_the_cache(self) -> None:
        ids = [f"example {number}" for number in range(1000)]
        tensors = {"logits": torch.ones(1000, 2), "targets": torch.zeros(1000, dtype=torch.int64)}
        for _ in range(2):
            assert decode(tensors, {"ids": ids}).batches[0].ids == ids

    def test_every_field(self) -> None:
        options = decode(
            {"logits": LOGITS, "targets": TARGETS},
            {
                "config": {"alpha": [1, 2.5, 0], "reduction": "sum"},
                "outputs": ["p_t", "el2n"],
                "top_k": 3,
                "on_invalid": "exclude",
            },
        ).options
        assert options.config == LossConfig(alpha=(1.0, 2.5, 0.0), reduction="sum")
        assert (options.outputs, options.top_k, options.on_invalid) == (("p_t", "el2n"), 3, "exclude")
        assert decode({"logits": LOGITS, "targets": TARGETS}, {"config_id": "fl_0"}).options.config_id == "fl_0"

    def test_defaults_without_metadata(self) -> None:
        request = CODEC.decode(bytearray(safetensors.torch.save({"logits": LOGITS, "targets": TARGETS})))
        assert request.options.config is None
        assert request.options.outputs == ("loss", "contribution")
        assert request.batches[0].ids is None

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_logits_of_every_dtype(self, dtype: torch.dtype) -> None:
        stored = LOGITS.to(dtype)
        (batch,) = decode({"logits": stored, "targets": TARGETS}).batches
        assert torch.equal(as_tensor(batch.logits), stored)

    @pytest.mark.parametrize("dtype", list(DTYPES.values()))
    def test_targets_of_every_dtype(self, dtype: np.dtype[Any]) -> None:
        stored = as_tensor(np.array([1, 0]).astype(dtype))
        (batch,) = decode({"logits": LOGITS, "targets": stored}).batches
        assert batch.targets.dtype == dtype
        assert torch.equal(as_tensor(batch.targets), stored)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_bodies_of_the_library_for_numpy(self, dtype: type[np.floating[Any]]) -> None:
        logits, targets = LOGITS.numpy().astype(dtype), np.array([2, 0], np.int32)
        body = safetensors.numpy.save({"logits": logits, "targets": targets}, {"request": '{"top_k": 1}'})
        request = CODEC.decode(bytearray(body))
        assert request.options.top_k == 1
        assert np.array_equal(request.batches[0].logits, logits)
        assert np.array_equal(request.batches[0].targets, targets)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint16, torch.uint64, torch.bool, torch.uint8, torch.float32])
    def test_logits_must_be_numbers_and_ids_integers(self, dtype: torch.dtype) -> None:
        tensors = {"logits": LOGITS, "targets": TARGETS}
        if dtype == torch.bool:
            error = decode_error(tensors | {"logits": LOGITS.to(dtype)})
            assert error.errors[0]["loc"] == ["batches", 0, "logits", 0]
        elif not dtype.is_floating_point:
            (batch,) = decode(tensors | {"logits": LOGITS.abs().to(dtype)}).batches
            assert (batch.logits.dtype, batch.logits.tolist()) == (np.float64, LOGITS.abs().to(dtype).tolist())
        if dtype in (torch.bool, torch.float32):
            error = decode_error(tensors | {"ids": TARGETS.to(dtype)})
            assert isinstance(error, InvalidIdsError)
            assert error.errors[0]["loc"] == ["batches", 0, "ids"]
        else:
            (batch,) = decode(tensors | {"ids": TARGETS.to(dtype)}).batches
            assert batch.ids == [2, 0]

    @pytest.mark.parametrize("shape", [(0, 3), (0,), (0, 0), (3, 0), ()])
    def test_empty_and_scalar_tensors(self, shape: tuple[int, ...]) -> None:
        (batch,) = decode({"logits": torch.zeros(shape), "targets": torch.zeros(0, dtype=torch.int64)}).batches
        assert batch.logits.shape == shape

    def test_numbered_batches_are_ordered_by_number(self) -> None:
        tensors = {}
        for number in range(12):
            tensors[f"logits.{number}"] = torch.full((number + 1, 2), float(number))
            tensors[f"targets.{number}"] = torch.zeros(number + 1, dtype=torch.uint8)
        tensors["ids.10"] = torch.arange(11)
        request = decode(tensors, {"batches": [{}, {"ids": ["x", 2]}, {}]})
        assert [batch.logits.shape for batch in request.batches] == [(number + 1, 2) for number in range(12)]
        assert [batch.logits[0, 0].item() for batch in request.batches] == list(range(12))
        assert request.batches[1].ids == ["x", 2]
        assert request.batches[10].ids == list(range(11))
        assert {batch.ids is None for number, batch in enumerate(request.batches) if number not in (1, 10)} == {True}

    @pytest.mark.parametrize(
        ("request_ids", "ids"),
        [
            ({"ids": ["a", "b"]}, ["a", "b"]),
            ({"ids": [1, "1"]}, [1, "1"]),
            ({"ids": []}, []),
            ({"batches": [{"ids": [-(2**63), 2**64 - 1]}]}, [-(2**63), 2**64 - 1]),
            ({"batches": [{}]}, None),
            ({"batches": []}, None),
        ],
    )
    def test_ids_in_the_request(self, request_ids: dict[str, Any], ids: list[str | int] | None) -> None:
        assert decode({"logits": LOGITS, "targets": TARGETS}, request_ids).batches[0].ids == ids

    def test_ids_as_a_tensor(self) -> None:
        ids = torch.tensor([-(2**63), 2**63 - 1])
        (batch,) = decode({"logits": LOGITS, "targets": TARGETS, "ids": ids}).batches
        assert batch.ids == [-(2**63), 2**63 - 1]
        assert {type(identity) for identity in batch.ids or ()} == {int}


class TestWrongParts:
    @pytest.mark.parametrize(
        ("names", "loc"),
        [
            (["targets"], ["batches", 0, "logits"]),
            (["logits"], ["batches", 0, "targets"]),
            (["ids"], ["batches", 0, "logits"]),
            (["logits.0", "targets.0", "logits.1"], ["batches", 1, "targets"]),
            (["logits", "targets", "weights"], ["weights"]),
            (["logits", "targets", "logits."], ["logits."]),
            (["logits", "targets", "Logits"], ["Logits"]),
            (["logits.00", "targets.00"], ["logits.00"]),
            (["logits.-1", "targets.-1"], ["logits.-1"]),
            (["logits.1e3"], ["logits.1e3"]),
            (["logits.٣"], ["logits.٣"]),
            (["logits\n"], ["logits\n"]),
            ([], ["logits"]),
        ],
    )
    def test_names(self, names: list[str], loc: list[str | int]) -> None:
        error = decode_error({name: torch.zeros(2) for name in names})
        assert isinstance(error, InvalidRequestError)
        assert loc in [item["loc"] for item in error.errors]

    @pytest.mark.parametrize(
        "names",
        [
            ["logits", "targets", "logits.0", "targets.0"],
            ["logits.1", "targets.1"],
            ["logits.0", "targets.0", "logits.2", "targets.2"],
            ["logits.0", "targets.0", "logits.999999999", "targets.999999999"],
        ],
    )
    def test_numbers(self, names: list[str]) -> None:
        assert type(decode_error({name: torch.zeros(2) for name in names})) is InvalidRequestError

    @pytest.mark.parametrize(
        ("request_json", "loc"),
        [
            ({"ids": "ab"}, ["batches", 0, "ids"]),
            ({"ids": {"a": 1}}, ["batches", 0, "ids"]),
            ({"ids": [None]}, ["batches", 0, "ids", 0]),
            ({"ids": [1.0]}, ["batches", 0, "ids", 0]),
            ({"ids": [True]}, ["batches", 0, "ids", 0]),
            ({"ids": [[1]]}, ["batches", 0, "ids", 0]),
            ({"ids": [2**64]}, ["batches", 0, "ids", 0]),
            ({"batches": [{"ids": [None]}]}, ["batches", 0, "ids", 0]),
            ({"batches": [{"logits": [[1, 2]]}]}, ["batches", 0, "logits"]),
            ({"batches": {"ids": []}}, ["batches"]),
            ({"batches": [[]]}, ["batches"]),
            ({"batches": [{"ids": ["b", "c"]}], "ids": ["a", "b"]}, ["ids"]),
            ({"logits": [[1, 2]]}, ["logits"]),
            ({"config": {"gama": 1}}, ["config", "gama"]),
            ({"top_k": "1"}, ["top_k"]),
        ],
    )
    def test_the_request_metadata(self, request_json: dict[str, Any], loc: list[str | int]) -> None:
        error = decode_error({"logits": LOGITS, "targets": TARGETS}, request_json)
        assert isinstance(error, InvalidRequestError)
        assert [item["loc"] for item in error.errors] == [loc]

    def test_ids_of_a_missing_batch(self) -> None:
        error = decode_error({"logits": LOGITS, "targets": TARGETS}, {"batches": [{}, {"ids": ["a", "b"]}]})
        assert "batch 1" in error.detail

    def test_ids_both_as_a_tensor_and_in_the_request(self) -> None:
        error = decode_error({"logits": LOGITS, "targets": TARGETS, "ids": TARGETS + 1}, {"ids": ["a", "b"]})
        assert isinstance(error, InvalidIdsError)

    def test_ids_of_two_dimensions(self) -> None:
        error = decode_error({"logits": LOGITS, "targets": TARGETS, "ids": torch.zeros(2, 1, dtype=torch.int64)})
        assert isinstance(error, InvalidIdsError)

    def test_an_unknown_metadata_key(self) -> None:
        error = decode_error({"logits": LOGITS, "targets": TARGETS}, gamma="2")
        assert "'gamma'" in error.detail


class TestZeroCopy:
    """Addresses and bytes of the tensors, compared with those of the body."""

    @staticmethod
    def body(padding: int, dtype: str = "F32") -> bytearray:
        size = DTYPES[dtype].itemsize
        # A one-byte tensor of `padding` bytes first, so that the logits begin at any offset.
        header: dict[str, Any] = {
            "targets": {"dtype": "U8", "shape": [padding], "data_offsets": [0, padding]},
            "logits": {"dtype": dtype, "shape": [3, 2], "data_offsets": [padding, padding + 6 * size]},
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        logits = np.arange(6).astype(DTYPES[dtype]).tobytes()
        return bytearray(struct.pack("<Q", len(text)) + text + bytes(padding) + logits)

    @staticmethod
    def inside(array: Column, body: bytearray) -> bool:
        start = np.frombuffer(body, np.uint8).ctypes.data
        return start <= array.ctypes.data < start + len(body)

    @pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
    @pytest.mark.parametrize("padding", range(9))
    def test_an_aligned_tensor_is_a_view_and_any_other_a_copy(self, dtype: str, padding: int) -> None:
        body = self.body(padding, dtype)
        (batch,) = CODEC.decode(body).batches
        start = np.frombuffer(body, np.uint8).ctypes.data
        aligned = (start + len(body) - batch.logits.nbytes) % DTYPES[dtype].itemsize == 0
        assert self.inside(batch.logits, body) == aligned
        assert batch.logits.ctypes.data % DTYPES[dtype].itemsize == 0
        assert batch.logits.tolist() == [[0, 1], [2, 3], [4, 5]]
        body[len(body) - batch.logits.nbytes :] = bytes(batch.logits.nbytes)
        assert (batch.logits == 0).all() == aligned

    def test_both_cases_occur(self) -> None:
        cases = {self.inside(CODEC.decode(body).batches[0].logits, body) for body in map(self.body, range(9))}
        assert cases == {True, False}

    def test_bodies_of_the_library_are_aligned(self) -> None:
        body = bytearray(
            safetensors.torch.save({"logits": LOGITS, "targets": TARGETS, "ids": TARGETS + 1}, {"request": "{}"})
        )
        (batch,) = CODEC.decode(body).batches
        assert self.inside(batch.logits, body)
        assert self.inside(batch.targets, body)


@pytest.mark.parametrize("numbered", [False, True])
def test_offsets_of_a_ragged_batch_are_a_view(numbered: bool) -> None:
    suffix = ".0" if numbered else ""
    tensors = {
        f"logits{suffix}": np.zeros((3, 2), np.float32),
        f"targets{suffix}": np.array([0, 1, 0]),
        f"offsets{suffix}": np.array([0, 1, 3]),
    }
    body = bytearray(write_safetensors(tensors, {"request": '{"layout": "ragged"}'}))
    (batch,) = CODEC.decode(body).batches
    assert batch.offsets is not None
    assert batch.offsets.tolist() == [0, 1, 3]
    assert np.shares_memory(batch.offsets, np.frombuffer(body, np.uint8))
    assert batch.num_examples == 2


def test_a_dense_batch_is_a_view() -> None:
    tensors = {"logits": np.zeros((2, 3, 4, 5), np.float32), "targets": np.zeros((2, 4, 5), np.int64)}
    body = bytearray(write_safetensors(tensors, {"request": '{"layout": "dense"}'}))
    (batch,) = CODEC.decode(body).batches
    assert (batch.logits.shape, batch.targets.shape, batch.offsets) == ((2, 3, 4, 5), (2, 4, 5), None)
    for tensor in (batch.logits, batch.targets):
        assert np.shares_memory(tensor, np.frombuffer(body, np.uint8))
