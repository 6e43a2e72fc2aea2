"""The bytes that the client sends, as read by the safetensors library, and the grouping of a stream."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load

from service.client import AsyncLossClient, LossClient
from service.client.arrays import tensor
from service.client.batches import sent_batch
from service.client.calls import loss_fields
from service.client.errors import shift_batches
from service.client.grouping import Grouping
from service.client.wire import PIECE_BYTES, loss_body
from service.errors import (
    InvalidConfigError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    ShapeError,
    UnknownConfigError,
    UnknownOutputError,
)

LOGITS = np.arange(6, dtype=np.float32).reshape(2, 3)


def send_and_load(*batches: Any, **fields: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    body = loss_body([sent_batch(batch, number) for number, batch in enumerate(batches)], fields)
    content = b"".join(body)
    assert len(content) == body.length
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return load(content), json.loads(header["__metadata__"]["request"])


shapes = hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=7)
logits_dtypes = st.sampled_from([np.float16, np.float32, np.float64, ">f4", ">f8"])
target_dtypes = st.sampled_from([np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])


@given(st.lists(shapes.flatmap(lambda shape: hnp.arrays(logits_dtypes, shape)), min_size=1, max_size=4), st.data())
def test_arrays_arrive_bit_for_bit(logits: list[np.ndarray[Any, Any]], data: st.DataObject) -> None:
    targets = [data.draw(hnp.arrays(target_dtypes, array.shape[:1])) for array in logits]
    tensors, request = send_and_load(*zip(logits, targets, strict=True), top_k=3)
    assert request == {"top_k": 3}
    for number, (array, labels) in enumerate(zip(logits, targets, strict=True)):
        received = tensors[f"logits.{number}"].numpy()
        assert received.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(received, array)
        np.testing.assert_array_equal(tensors[f"targets.{number}"].numpy().astype(np.int64), labels.astype(np.int64))


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        np.asfortranarray(LOGITS),
        np.repeat(LOGITS, 2, axis=1)[:, ::2],
        torch.from_numpy(LOGITS),
        torch.from_numpy(LOGITS).requires_grad_(),
        torch.from_numpy(LOGITS.T.copy()).T,
        torch.from_numpy(LOGITS).bfloat16(),
        torch.from_numpy(LOGITS).half(),
        LOGITS.tolist(),
        LOGITS.astype(int),
        LOGITS.astype(np.longdouble),
        pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), 3),
        pa.chunked_array([pa.array([[0.0, 1.0, 2.0]]), pa.array([[3.0, 4.0, 5.0]])]),
        pa.array([[9.0] * 3, *LOGITS.tolist()]).slice(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_array_is_sent_as_the_same_numbers(logits: Any) -> None:
    tensors, _ = send_and_load((logits, [0, 1]))
    assert tensors["logits.0"].double().tolist() == LOGITS.tolist()
    if isinstance(logits, torch.Tensor):
        assert tensors["logits.0"].dtype == logits.dtype


class OnlyDlpack:
    """An array with `__dlpack__` and without `__array__`."""

    def __dlpack__(self, **arguments: Any) -> Any:
        return LOGITS.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return LOGITS.__dlpack_device__()


def test_dlpack_suffices() -> None:
    assert send_and_load((OnlyDlpack(), [0, 1]))[0]["logits.0"].tolist() == LOGITS.tolist()


@pytest.mark.parametrize(
    "batch",
    [
        {"logits": LOGITS, "targets": [0, 1], "ids": ["a", "b"]},
        pa.table({"id": ["a", "b"], "logits": LOGITS.tolist(), "targets": [0, 1]}),
        pa.record_batch({"targets": [0, 1], "logits": LOGITS.tolist(), "ids": ["a", "b"]}),
        (LOGITS, torch.tensor([0, 1]), np.array(["a", "b"])),
    ],
    ids=["mapping", "table", "record batch", "tuple"],
)
def test_ids_are_not_sent(batch: Any) -> None:
    assert sent_batch(batch).ids == ["a", "b"]
    tensors, _ = send_and_load(batch)
    assert sorted(tensors) == ["logits.0", "targets.0"]
    assert tensors["targets.0"].tolist() == [0, 1]


FRAME = {"logits": LOGITS.tolist(), "y": [False, True], "ids": ["a", "b"]}


@pytest.mark.parametrize(
    "batch",
    [
        FRAME,
        {"logits": LOGITS, "label": np.array([0.0, 1.0]), "id": np.array(["a", "b"], object)},
        pa.table(FRAME),
        pa.table(
            {"logit_0": LOGITS[:, 0], "logit_1": LOGITS[:, 1], "logit_2": LOGITS[:, 2]} | {"target": ["0", "1"]}
        ).append_column("id", pa.array(["a", "b"]).dictionary_encode()),
        pa.record_batch(
            {"labels": pa.array(["0", "1"], pa.string_view())} | {"logits": LOGITS.tolist(), "id": ["a", "b"]}
        ),
        pl.DataFrame(FRAME),
        pd.DataFrame(FRAME),
    ],
    ids=["mapping", "whole floats", "table", "numbered columns", "record batch", "polars", "pandas"],
)
def test_the_names_and_kinds_of_every_format_are_accepted(batch: Any) -> None:
    assert sent_batch(batch).ids == ["a", "b"]
    tensors, _ = send_and_load(batch)
    assert tensors["logits.0"].double().tolist() == LOGITS.tolist()
    assert tensors["targets.0"].double().tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, str, object])
def test_labels_of_every_type_are_sent_as_the_same_numbers(dtype: Any) -> None:
    assert send_and_load((LOGITS, np.array([0, 1]).astype(dtype)))[0]["targets.0"].double().tolist() == [0, 1]


@pytest.mark.parametrize(
    "ids",
    [
        np.array([0, 2**64 - 1], np.uint64),
        [np.int64(0), np.uint64(2**64 - 1)],
        torch.tensor([0, 2**64 - 1], dtype=torch.uint64),
        pa.array([0, 2**64 - 1], pa.uint64()),
    ],
    ids=["array", "scalars", "tensor", "column"],
)
def test_ids_have_64_bits(ids: Any) -> None:
    assert sent_batch((LOGITS, [0, 1], ids)).ids == [0, 2**64 - 1]


def test_what_is_no_label_is_sent_as_one_that_is_left_out() -> None:
    sent = sent_batch((LOGITS, [None, "1"]), on_invalid="exclude")
    assert np.isnan(np.frombuffer(sent.tensors["targets"].data, np.float64)).tolist() == [True, False]


def test_texts_are_names_before_they_are_numbers() -> None:
    sent = sent_batch((LOGITS, ["2", "0"]), class_names=["2", "cat", "dog"])
    assert np.frombuffer(sent.tensors["targets"].data, np.float64).tolist() == [0, 0]
    with pytest.raises(InvalidTargetError, match="row 1: 'bird' is not the name of a class; the names are '2', 'cat'"):
        sent_batch((LOGITS, ["cat", "bird"]), class_names=["2", "cat"])


@pytest.mark.parametrize(
    ("batch", "kind", "message"),
    [
        (([[1, 2], [3]], [0, 0]), ShapeError, "batch 4: row 1 of logits has 1 values, row 0 has 2"),
        (([["a", "b"]], [0]), InvalidRequestError, "batch 4: logits are numbers, got str"),
        (([[None, 1.0]], [0]), InvalidRequestError, "batch 4: logits are numbers, got object"),
        ((LOGITS.astype(complex), [0, 1]), InvalidRequestError, "complex"),
        ((LOGITS, np.array([0, 2**63], np.uint64)), InvalidTargetError, "batch 4, row 1: .*got 9223372036854775808"),
        ((LOGITS, ["0", "cat"]), InvalidTargetError, "batch 4, row 1: 'cat' is not a number"),
        ((LOGITS, [0, None]), InvalidTargetError, "batch 4, row 1: no value"),
        ((LOGITS, [[0, 0, 0], [0, "x", 0]]), InvalidTargetError, "batch 4, row 1, column 1: 'x' is not a number"),
        ((LOGITS, np.array(["2026-01-01"] * 2, "M8[D]")), InvalidTargetError, "row 0: 2026-01-01 is not a number"),
        ((LOGITS, [0, 1], [0, 2**64]), InvalidIdsError, "batch 4, row 1: an integer id has 64 bits"),
        ((LOGITS, [0, 1], ["a"]), ShapeError, "1 ids for 2 rows"),
        ((LOGITS, [0, 1], ["a", "a"]), InvalidIdsError, "batch 4, row 1: id 'a' is already that of row 0"),
        ((LOGITS, [0, 1], ["a", 1.5]), InvalidIdsError, "row 1: .*1.5"),
        ((LOGITS, [0, 1], [True, False]), InvalidIdsError, "row 0: .*true"),
        ({"logits": LOGITS}, InvalidRequestError, "targets missing"),
        (pa.table({"logits": LOGITS.tolist()}), InvalidRequestError, "targets missing"),
        (
            pa.table({"logits": [[1.0], [1.0, 2.0]], "targets": [0, 0]}),
            ShapeError,
            "batch 4, row 1: 2 values, row 0 has 1",
        ),
        (pa.table({"logits": [[1.0], None], "targets": [0, 0]}), InvalidRequestError, "batch 4, row 1: no value"),
        (pa.table({"logits": [["a"]], "targets": [0]}), InvalidRequestError, "batch 4, row 0: string is not a number"),
        ({"logits": LOGITS, "y": [0, 1], "label": [0, 1]}, InvalidRequestError, "batch 4: both 'label' and 'y'"),
        (pa.table({"logits": LOGITS.tolist(), "y": [0, None]}), InvalidTargetError, "batch 4, row 1: no value"),
        (pl.Series([1, 2]), InvalidRequestError, "batch 4: Series is no table"),
        (LOGITS, InvalidRequestError, "a batch is"),
    ],
)
def test_an_invalid_batch_raises_an_error(batch: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sent_batch(batch, 4)


def test_options_are_validated_before_sending() -> None:
    assert loss_fields("fl_1", "loss, p_t")["outputs"] == ["loss", "p_t"]
    assert loss_fields({"alpha": np.array([1, 3.0])}, ["loss"])["config"]["alpha"] == [1, 3]
    with pytest.raises(UnknownOutputError, match="margin"):
        loss_fields(None, ["margin"])
    with pytest.raises(InvalidConfigError, match="gama"):
        loss_fields({"gama": 1}, ["loss"])
    with pytest.raises(InvalidRequestError, match="top_k"):
        loss_fields(None, ["loss"], top_k=-1)


def test_the_logits_are_sent_without_a_copy() -> None:
    logits = np.zeros((1 << 20, 16), np.float32)
    targets = np.zeros(len(logits), np.int64)
    tracemalloc.start()
    try:
        pieces = sum(len(piece) for piece in loss_body([sent_batch((logits, targets))], {}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pieces > logits.nbytes
    assert peak < 8 * PIECE_BYTES


def test_a_group_has_one_width_and_dtype_and_copies_its_arrays() -> None:
    grouping = Grouping(max_bytes=200, max_batches=3)
    array = np.zeros((2, 3), np.float32)
    kinds = [array, array, array, array, array.astype(np.float64), np.zeros((2, 4)), np.zeros((9, 4)), np.zeros((1, 4))]
    groups = [group for logits in kinds if (group := grouping.add(sent_batch((logits, [0] * len(logits)))))]
    groups.append(grouping.take())
    assert [[batch.tensors["logits"].shape for batch in group] for group in groups] == [
        [(2, 3)] * 3,
        [(2, 3)],
        [(2, 3)],
        [(2, 4)],
        [(9, 4)],
        [(1, 4)],
    ]
    array += 7
    assert not any(groups[0][0].tensors["logits"].data)
    assert grouping.take() == []


def test_a_stream_reads_no_more_batches_than_it_needs() -> None:
    read = 0

    def batches() -> Iterator[Any]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield np.zeros((2**20, 8), np.float32), np.zeros(2**20, np.uint8)

    def reject(request: httpx.Request) -> httpx.Response:
        problem = InvalidLogitError(
            "batch 0, row 5: logit NaN", errors=[{"loc": ["batches", 0, "logits", 5], "msg": ""}]
        )
        return httpx.Response(422, json=problem.problem())

    with LossClient("http://service", transport=httpx.MockTransport(reject)) as client:
        stream = client.stream(batches())
        assert read == 0
        with pytest.raises(InvalidLogitError):
            next(stream)
    assert read <= 3


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_with_an_unknown_config_id_reads_no_batch(asynchronous: bool) -> None:
    paths: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(404, json=UnknownConfigError("config fl_0 is unknown").problem())

    def batches() -> Iterator[Any]:
        raise AssertionError("the stream read a batch")
        yield

    async def first_result() -> None:
        async with AsyncLossClient("http://service", transport=httpx.MockTransport(reply)) as client:
            await anext(client.stream(batches(), config="fl_0"))

    with pytest.raises(UnknownConfigError):
        if asynchronous:
            asyncio.run(first_result())
        else:
            with LossClient("http://service", transport=httpx.MockTransport(reply)) as client:
                next(client.stream(batches(), config="fl_0"))
    assert paths == ["/configs/fl_0"]


def test_an_error_names_the_batch_of_the_stream() -> None:
    error = InvalidLogitError("batch 2, row 5: logit NaN", errors=[{"loc": ["batches", 2, "logits", 5], "msg": "NaN"}])
    shift_batches(error, 40)
    assert str(error) == error.detail == "batch 42, row 5: logit NaN"
    assert error.errors[0]["loc"] == ["batches", 42, "logits", 5]


def test_empty_and_scalar_arrays_can_be_sent() -> None:
    assert tensor(np.empty((0, 3), np.float32), "logits").data.nbytes == 0
    assert tensor(3.5, "logits").shape == ()
