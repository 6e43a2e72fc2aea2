"""Safetensors bodies with wrong headers: each is rejected before the process allocates the declared size."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.safetensors import SafetensorsCodec
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.errors import DecodeError, InvalidRequestError, LossServiceError
from service.formats.safetensors import MAX_HEADER_BYTES, MAX_TENSORS
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from tests.codecs.outcomes import error_of, outcome
from tests.strategies import at_most, json_values

CODEC = SafetensorsCodec()
LOGITS = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
TARGETS = {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]}
DATA = struct.pack("<4f2q", 1, 2, 3, 4, 0, 1)
REQUEST = {"config": {"alpha": [1, 2.5], "gamma": 2}, "outputs": ["loss", "p_t"], "ids": ["a", 5], "top_k": 1}
VALID = safetensors.torch.save(
    {"logits": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "targets": torch.tensor([0, 1])},
    {"request": json.dumps(REQUEST)},
)


def body_of(header: str | bytes, data: bytes = DATA) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def with_entries(data: bytes = DATA, **entries: Any) -> bytes:
    return body_of(json.dumps({"logits": LOGITS, "targets": TARGETS} | entries), data)


@pytest.fixture(scope="module")
def device() -> Device:
    return Device("cpu")


def test_unchanged_body_is_valid() -> None:
    (batch,) = CODEC.decode(bytearray(with_entries())).batches
    assert batch.logits.tolist() == [[1, 2], [3, 4]]
    assert batch.targets.tolist() == [0, 1]


class TestDamage:
    def test_every_truncation(self) -> None:
        CODEC.decode(bytearray(VALID))
        for length in range(len(VALID)):
            assert isinstance(error_of(CODEC, VALID[:length]), DecodeError), length

    def test_bytes_after_the_end(self) -> None:
        for more in (b"\0", b"   ", VALID):
            assert isinstance(error_of(CODEC, VALID + more), DecodeError)

    def check_service(self, device: Device, body: bytearray) -> None:
        """Decode, evaluate and encode; only errors of the service may occur."""
        got = outcome(CODEC, body)
        if isinstance(got, LossServiceError):
            assert got.status in (400, 422)
            return
        module = FocalLoss.from_config(got.options.config or LossConfig(), "cpu")
        try:
            result = evaluate(device, module, got, Limits(100, 100))
        except LossServiceError as error:
            if error.status not in (413, 422):
                raise
        else:
            assert CODEC.encode(result)

    def test_every_changed_bit(self) -> None:
        rejected = 0
        for position in range(len(VALID)):
            for bit in range(8):
                body = bytearray(VALID)
                body[position] ^= 1 << bit
                got = outcome(CODEC, body)
                if isinstance(got, LossServiceError):
                    assert got.status in (400, 422)
                    rejected += 1
                else:
                    assert len(got.batches) == 1
        assert rejected > len(VALID)

    @at_most(300, deadline=None)
    @given(changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def test_changed_bytes(self, device: Device, changes: list[tuple[int, int]]) -> None:
        body = bytearray(VALID)
        for position, value in changes:
            body[position] = value
        self.check_service(device, body)

    @at_most(100, deadline=None)
    @given(cut=st.integers(0, len(VALID)), count=st.integers(1, 16), fill=st.binary(max_size=16))
    def test_missing_or_additional_bytes(self, device: Device, cut: int, count: int, fill: bytes) -> None:
        self.check_service(device, bytearray(VALID[:cut] + fill + VALID[cut + count :]))

    @at_most(300, deadline=None)
    @given(header=json_values, data=st.binary(max_size=16))
    def test_random_json_as_header(self, header: object, data: bytes) -> None:
        error_of(CODEC, body_of(json.dumps(header), data))

    @at_most(300, deadline=None)
    @given(
        dtype=st.sampled_from(["F32", "I64", "U8", "F8_E4M3", "", None]) | json_values,
        shape=st.lists(st.integers(-2, 2**65), max_size=4) | json_values,
        offsets=st.lists(st.integers(-2, 40), max_size=3) | json_values,
    )
    def test_random_values_in_an_entry(self, device: Device, dtype: object, shape: object, offsets: object) -> None:
        entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        self.check_service(device, bytearray(with_entries(logits=entry)))


class TestHeader:
    @pytest.mark.parametrize("length", [0, 1, len(VALID) - 7, len(VALID), 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    def test_wrong_length(self, length: int) -> None:
        tracemalloc.start()
        try:
            error = error_of(CODEC, struct.pack("<Q", length) + VALID[8:])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(error, DecodeError)
        assert peak < 100_000

    def test_body_shorter_than_the_length(self) -> None:
        for length in range(8):
            assert isinstance(error_of(CODEC, bytes(length)), DecodeError)

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "[]",
            "null",
            " {}",
            "{",
            "{}}",
            '{"logits": }',
            '{"logits": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}',
            b"\xff\xfe",
            b'{"\xff": 1}',
            "{}".encode("utf-16-le"),
            "{}".encode("utf-32-le"),
            '{"\\ud800": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}',
            '{"__metadata__": {"\\ud800": ""}}',
            '{"x": ' + "1" * 5000 + "}",
        ],
    )
    def test_invalid_header_text(self, header: str | bytes) -> None:
        assert isinstance(error_of(CODEC, body_of(header)), DecodeError)

    def test_utf_16_is_rejected(self) -> None:
        text = json.dumps({"logits": LOGITS, "targets": TARGETS})
        assert isinstance(error_of(CODEC, body_of(text.encode("utf-16-le"))), DecodeError)

    @pytest.mark.parametrize("depth", [100, 900, 990, 1000, 5000, 100_000])
    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
    def test_nesting(self, depth: int, opening: str, closing: str) -> None:
        deep = opening * depth + "1" + closing * depth
        for name in ("logits", "__metadata__"):
            assert isinstance(error_of(CODEC, body_of(f'{{"{name}": {deep}}}')), DecodeError)

    def test_a_header_over_the_limit(self) -> None:
        error = error_of(CODEC, struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" + b" " * MAX_HEADER_BYTES)
        assert isinstance(error, DecodeError)
        assert str(MAX_HEADER_BYTES) in error.detail

    def test_too_many_tensors(self) -> None:
        empty = '{"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}'
        names = ", ".join(f'"logits.{number}": {empty}' for number in range(MAX_TENSORS + 1))
        error = error_of(CODEC, body_of(f"{{{names}}}", b""))
        assert isinstance(error, DecodeError)
        assert str(MAX_TENSORS) in error.detail

    @pytest.mark.parametrize(
        "header",
        [
            f'{{"logits": {json.dumps(LOGITS)}, "logits": {json.dumps(LOGITS)}, "targets": {json.dumps(TARGETS)}}}',
            f'{{"logits": {json.dumps(LOGITS)}, "\\u006cogits": {json.dumps(TARGETS)}}}',
            '{"__metadata__": {}, "__metadata__": {}}',
            '{"__metadata__": {"request": "{}", "request": "{}"}}',
            '{"logits": {"dtype": "F32", "dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}',
        ],
    )
    def test_duplicate_names(self, header: str) -> None:
        assert isinstance(error_of(CODEC, body_of(header)), DecodeError)

    def test_error_truncates_a_long_name(self) -> None:
        error_of(CODEC, with_entries(**{"x" * 100_000: TARGETS}))
        error_of(CODEC, with_entries(**{"x" * 100_000: {"dtype": "U8", "shape": [64], "data_offsets": [32, 96]}}))
        error_of(CODEC, with_entries(**{"x" * 100_000: {}}))
        one_byte = {"dtype": "U8", "shape": [1], "data_offsets": [32, 33]}
        error_of(CODEC, with_entries(DATA + b"\0", **{"x" * 100_000: one_byte}))


class TestEntries:
    @pytest.mark.parametrize("entry", [None, 1, "F32", [], {}, {"dtype": "F32"}, LOGITS | {"more": 1}])
    def test_members(self, entry: Any) -> None:
        assert isinstance(error_of(CODEC, with_entries(logits=entry)), DecodeError)

    @pytest.mark.parametrize(
        "dtype", ["f32", "F64 ", "F8_E4M3", "F4", "C64", "", "BOOL\0", None, 32, ["F32"], {"a": 1}]
    )
    def test_unsupported_dtypes(self, dtype: Any) -> None:
        error = error_of(CODEC, with_entries(logits=LOGITS | {"dtype": dtype}))
        assert isinstance(error, DecodeError)
        assert "F64, F32, F16, BF16" in error.detail

    @pytest.mark.parametrize(
        "shape",
        [
            [2**62, 2**62],
            [2**62, 2**62, 4],
            [2**31, 2**31, 2**31],
            [2**64 + 4],
            [4, 2**64, 0],
            [2**40, 4],
            [-2, -2],
            [-1, 4],
            [2.0, 2],
            ["2", 2],
            [True, 4],
            [None],
            [[2, 2]],
            [2, 2] + [1] * 7,
            [4, 2],
            [1, 1],
            [],
            "22",
            {"0": 2},
            None,
            4,
        ],
    )
    def test_shapes_that_do_not_match_the_bytes(self, shape: Any) -> None:
        assert isinstance(error_of(CODEC, with_entries(logits=LOGITS | {"shape": shape})), DecodeError)

    @pytest.mark.parametrize(
        "shape",
        [[0, 2**62], [2**62, 0], [0, 2**62, 2**62], [2**62, 2**62, 0], [2**40, 0, 2**40], [2**63 - 1, 0], [0, 2**63]],
    )
    def test_empty_tensors_of_huge_dimensions(self, shape: list[int]) -> None:
        empty = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        no_targets = {"dtype": "I64", "shape": [0], "data_offsets": [0, 0]}
        got = outcome(CODEC, with_entries(b"", logits=empty, targets=no_targets))
        if isinstance(got, LossServiceError):
            assert isinstance(got, DecodeError)
        else:
            assert list(got.batches[0].logits.shape) == shape

    def test_declared_terabytes_are_rejected_early(self) -> None:
        size = 2**44
        entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
        error = error_of(CODEC, with_entries(logits=entry, targets=TARGETS | {"data_offsets": [size, size + 16]}))
        assert isinstance(error, DecodeError)
        assert str(size) in error.detail

    @pytest.mark.parametrize(
        ("logits", "targets"),
        [
            ([0, 16], [0, 16]),
            ([0, 16], [8, 24]),
            ([0, 16], [17, 33]),
            ([0, 16], [15, 31]),
            ([8, 24], [24, 40]),
            ([16, 32], [0, 8]),
            ([0, 16], [24, 40]),
            ([16, 0], [16, 32]),
            ([-16, 0], [0, 16]),
            ([0, 16], [16, 33]),
            ([0, 2**63 + 16], [16, 32]),
            ([2**62, 2**62 + 16], [16, 32]),
            ([0.0, 16.0], [16, 32]),
            ([0, "16"], [16, 32]),
            ([False, 16], [16, 32]),
            ([0], [16, 32]),
            ([0, 16, 16], [16, 32]),
            ([], [16, 32]),
            (None, [16, 32]),
            (16, [16, 32]),
        ],
    )
    def test_offsets(self, logits: Any, targets: Any) -> None:
        body = with_entries(logits=LOGITS | {"data_offsets": logits}, targets=TARGETS | {"data_offsets": targets})
        assert isinstance(error_of(CODEC, body), DecodeError)

    def test_header_in_any_order(self) -> None:
        body = body_of(json.dumps({"targets": TARGETS, "logits": LOGITS}))
        assert CODEC.decode(bytearray(body)).batches[0].targets.tolist() == [0, 1]

    @pytest.mark.parametrize("data", [DATA[:-1], DATA + b"\0", b""])
    def test_data_of_another_length(self, data: bytes) -> None:
        assert isinstance(error_of(CODEC, with_entries(data)), DecodeError)

    def test_empty_tensors_between_others(self) -> None:
        empty = {"dtype": "I64", "shape": [0], "data_offsets": [16, 16]}
        error = error_of(CODEC, with_entries(ids=empty, more={**empty, "data_offsets": [7, 7]}))
        assert isinstance(error, DecodeError)
        assert CODEC.decode(bytearray(with_entries(ids=empty))).batches[0].ids == []


class TestMetadata:
    @pytest.mark.parametrize(
        "metadata", [None, [], "{}", 1, {"request": {}}, {"request": None}, {"request": 1}, {"format": []}]
    )
    def test_metadata_must_map_strings_to_strings(self, metadata: Any) -> None:
        assert isinstance(error_of(CODEC, with_entries(__metadata__=metadata)), DecodeError)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "{}{}",
            "NaN",
            '{"top_k": NaN}',
            '{"ids": ["\\ud800"]}',
            '{"\\ud800": 1}',
            '{"top_k": 1, "top_k": 2}',
            '{"config": {"gamma": 1, "gamma": 2}}',
            "[" * 100_000,
            '{"config": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
            '{"config": ' + "[" * 1010 + "]" * 1010 + "}",
        ],
    )
    def test_a_request_that_is_not_json(self, text: str) -> None:
        assert isinstance(error_of(CODEC, with_entries(__metadata__={"request": text})), DecodeError)

    @pytest.mark.parametrize("text", ["[]", "null", "1", '"{}"', '{"config": ' + "[" * 500 + "]" * 500 + "}"])
    def test_request_that_is_not_valid(self, text: str) -> None:
        assert isinstance(error_of(CODEC, with_entries(__metadata__={"request": text})), InvalidRequestError)

    @at_most(150, deadline=None)
    @given(json_values)
    def test_random_json_as_request(self, value: object) -> None:
        got = outcome(CODEC, with_entries(__metadata__={"request": json.dumps(value)}))
        assert got.status in (400, 422) if isinstance(got, LossServiceError) else value == {}

    @at_most(300, deadline=None)
    @given(
        st.dictionaries(st.sampled_from(["config", "ids", "batches", "outputs", "top_k", "on_invalid"]), json_values)
    )
    def test_random_values_in_the_request(self, fields: dict[str, object]) -> None:
        got = outcome(CODEC, with_entries(__metadata__={"request": json.dumps(fields)}))
        assert got.status in (400, 422) if isinstance(got, LossServiceError) else len(got.batches) == 1
