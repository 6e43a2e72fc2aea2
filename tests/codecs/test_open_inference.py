"""Bytes of the Open Inference Protocol, valid and hostile."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.open_inference import decode_request, encode_response
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.errors import DecodeError, LossServiceError
from service.loss.focal import FocalLoss
from tests.strategies import at_most

LOGITS = np.array([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]], np.float32)
TARGETS = np.array([0, 1], np.int32)
# Written by hand from the specification: JSON, then 24 bytes of logits, then 8 of targets.
GOLDEN_HEADER = (
    b'{"id":"7","inputs":[{"name":"logits","shape":[2,3],"datatype":"FP32","parameters":{"binary_data_size":24}},'
    b'{"name":"targets","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}],'
    b'"outputs":[{"name":"prediction","parameters":{"binary_data":true}},{"name":"loss"}]}'
)
GOLDEN_BODY = (
    GOLDEN_HEADER
    + bytes.fromhex("00000040 cdcccc3d 000080bf 9a99993e cdcc4c3e 6666663f".replace(" ", ""))
    + bytes.fromhex("00000000 01000000".replace(" ", ""))
)


def body_of(header: Any, tail: bytes = b"") -> tuple[bytearray, int]:
    text = json.dumps(header).encode()
    return bytearray(text + tail), len(text)


def entries(**logits: Any) -> list[dict[str, Any]]:
    return [
        {"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": LOGITS.tolist()} | logits,
        {"name": "targets", "datatype": "INT64", "shape": [2], "data": [0, 1]},
    ]


def test_golden_request() -> None:
    request = decode_request(bytearray(GOLDEN_BODY), len(GOLDEN_HEADER))
    (batch,) = request.loss_request.batches
    assert batch.logits.tolist() == LOGITS.tolist()
    assert batch.targets.tolist() == [0, 1]
    assert batch.targets.dtype == np.int32
    assert [(output.name, output.binary) for output in request.outputs] == [("prediction", True), ("loss", False)]
    assert request.id == "7"


def test_golden_reply() -> None:
    device = Device("cpu")
    module = FocalLoss([1.0, 2.0, 4.0], gamma=0, device="cpu", reduction="none")
    request = decode_request(bytearray(GOLDEN_BODY), len(GOLDEN_HEADER))
    result = evaluate(device, module, request.loss_request, Limits(100, 100))
    body, length = encode_response(result, request, "focal_loss", "1")
    header = (
        b'{"model_name":"focal_loss","model_version":"1","outputs":['
        b'{"name":"prediction","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}},'
        b'{"name":"loss","datatype":"FP64","shape":[1],"data":[null]}],'
        b'"parameters":{"config_id":"' + module.config.config_id.encode() + b'","device":"cpu",'
        b'"num_examples":2,"num_ignored":0,"num_excluded":0,"num_elements":2,"hardest":"[]","excluded":"[]"},"id":"7"}'
    )
    assert body == header + bytes([0] * 8 + [2] + [0] * 7)
    assert length == len(header)


def test_binary_tensors_are_views_of_the_body() -> None:
    padding = b" " * (-len(GOLDEN_HEADER) % 8)
    body = bytearray(GOLDEN_HEADER + padding + GOLDEN_BODY[len(GOLDEN_HEADER) :])
    (batch,) = decode_request(body, len(GOLDEN_HEADER + padding)).loss_request.batches
    body[-32:-28] = np.float32(5).tobytes()
    assert batch.logits[0, 0] == 5


@pytest.mark.parametrize("length", [None, len(GOLDEN_HEADER)])
def test_every_truncation_is_rejected(length: int | None) -> None:
    for cut in range(len(GOLDEN_BODY)):
        with pytest.raises(DecodeError):
            decode_request(bytearray(GOLDEN_BODY[:cut]), length)


@pytest.mark.parametrize("length", [0, 1, len(GOLDEN_HEADER) - 1, len(GOLDEN_HEADER) + 1, len(GOLDEN_BODY) + 1, 2**63])
def test_wrong_header_length_is_rejected(length: int) -> None:
    with pytest.raises(DecodeError):
        decode_request(bytearray(GOLDEN_BODY), length)


def test_bytes_after_the_last_tensor_are_rejected() -> None:
    with pytest.raises(DecodeError, match="additional input data: 1 bytes"):
        decode_request(bytearray(GOLDEN_BODY + b"x"), len(GOLDEN_HEADER))


@pytest.mark.parametrize(
    ("logits", "says"),
    [
        ({"shape": [2, 4]}, "does not match its shape [2, 4]"),
        ({"shape": [2, 4], "data": [1, 2, 3, 4, 5, 6]}, "data has 6 values"),
        ({"data": [[1], [2, 3, 4, 5, 6]]}, "does not match its shape"),
        ({"data": [[1, 2, 3], 4, 5, 6]}, "does not match its shape"),
        ({"data": [[1, 2, [3]], [4, 5, 6]]}, "row 0, column 2: [3] is not FP32"),
        ({"data": [1, 2, 3, 4, 1e39, 6]}, "row 1, column 1: 1e+39 is more than FP32 can hold"),
        ({"data": [[1, 2, 3], [-1e300, 5, 6]]}, "row 1, column 0: -1e+300 is more than FP32 can hold"),
        ({"shape": [-2, -3]}, "shape"),
        ({"shape": [2**40, 2**40]}, "shape"),
        ({"shape": [0, 2**62], "data": []}, "shape"),
        ({"shape": "2,3"}, "shape"),
        ({"shape": [2.0, 3]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": [1] * 9}, "shape"),
        ({"data": 5}, "data is a list"),
        ({"data": [1, 2, 3, 4, 5, None]}, "null"),
        ({"data": [1, 2, 3, 4, 5, True]}, "true"),
        ({"data": [1, 2, 3, 4, 5, "6"]}, '"6"'),
        ({"data": [[[[[[[[[1]]]]]]]]]}, "nesting"),
        ({"datatype": "FP16"}, "binary data only"),
        ({"datatype": "BF16"}, "binary data only"),
        ({"datatype": "FP8"}, "datatype 'FP8'"),
        ({"datatype": None}, "datatype"),
        ({"parameters": {"binary_data_size": 24}}, "either data or"),
        ({"parameters": {"shared_memory_region": "x"}}, "shared_memory_region"),
        ({"parameters": []}, "parameters"),
        ({"name": "targets"}, "appears twice"),
        ({"name": "other"}, "'other' is unknown"),
    ],
)
def test_error_names_the_input(logits: dict[str, Any], says: str) -> None:
    with pytest.raises(LossServiceError) as raised:
        decode_request(*body_of({"inputs": entries(**logits)}))
    assert 400 <= raised.value.status < 500
    assert says in raised.value.detail


@pytest.mark.parametrize("size", [23, 25, -24, 24.0, "24", 2**63, None])
def test_binary_size_must_match_the_shape(size: Any) -> None:
    logits, targets = entries()
    del logits["data"]
    with pytest.raises(DecodeError):
        decode_request(*body_of({"inputs": [logits | {"parameters": {"binary_data_size": size}}, targets]}, bytes(24)))


@pytest.mark.parametrize(
    "targets", [[0, 1.5], [0, True], [0, None], [0, "1"], [0, 2**63], [0, -(2**63) - 1], [0, 1e300]]
)
def test_json_targets_must_fit_the_datatype(targets: list[Any]) -> None:
    logits, target = entries()
    with pytest.raises(DecodeError):
        decode_request(*body_of({"inputs": [logits, target | {"data": targets}]}))


@pytest.mark.parametrize(
    "header",
    [
        [],
        1,
        {"inputs": 5},
        {"inputs": [5]},
        {"inputs": entries(), "outputs": {}},
        {"inputs": entries(), "outputs": [{"name": ["loss"]}]},
        {"inputs": entries(), "outputs": [{"name": "loss"}, {"name": "p_t"}, {"name": "loss"}]},
        {"inputs": entries(), "id": 5},
        {"inputs": entries(), "parameters": 5},
        {"inputs": entries(), "parameters": {"top_k": "1"}},
        {"inputs": entries(), "parameters": {"config": "{"}},
        {"inputs": entries(), "parameters": {"config": "[]"}},
        {"inputs": entries(), "parameters": {"config": "{}", "config_id": "fl_0"}},
    ],
)
def test_invalid_headers_are_rejected(header: Any) -> None:
    with pytest.raises(LossServiceError) as raised:
        decode_request(*body_of(header))
    assert 400 <= raised.value.status < 500


def test_deep_json_is_rejected() -> None:
    with pytest.raises(DecodeError):
        decode_request(bytearray(b'{"inputs":' + b"[" * 100_000), None)


def test_flat_and_nested_data_are_equal() -> None:
    nested = decode_request(*body_of({"inputs": entries()}))
    flat = decode_request(*body_of({"inputs": entries(data=LOGITS.ravel().tolist())}))
    assert np.array_equal(nested.loss_request.batches[0].logits, flat.loss_request.batches[0].logits)


def test_empty_data_is_flat_or_nested() -> None:
    for shape, data in (([0, 3], []), ([2, 0], [[], []]), ([2, 0], [])):
        request = decode_request(*body_of({"inputs": entries(shape=shape, data=data)}))
        assert list(request.loss_request.batches[0].logits.shape) == shape


@given(position=st.integers(0, len(GOLDEN_BODY) - 1), value=st.integers(0, 255))
@at_most(300, deadline=None)
def test_changed_byte_is_rejected_or_another_request(position: int, value: int) -> None:
    body = bytearray(GOLDEN_BODY)
    body[position] = value
    status = 200
    try:
        elements = decode_request(body, len(GOLDEN_HEADER)).loss_request.batches[0].logits.size
    except LossServiceError as err:
        status, elements = err.status, 6
    assert (status, elements) in ((200, 6), (400, 6), (422, 6))
