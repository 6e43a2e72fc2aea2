"""Logits that the client reduces to statistics: the same results as with the logits, and few bytes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from service.client import AsyncLossClient, LossClient, LossResult
from service.client.batches import sent_batch
from service.client.reduction import CHUNK_LOGITS, FLOAT32_MAX, Reducer, needed_statistics
from service.errors import InvalidRequestError, InvalidTargetError, NeedsLogitsError, ShapeError
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS, STATISTICS
from tests.compute.structured import Structured, structured_batches
from tests.strategies import at_most

LOGITS = np.array([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]], np.float32)


def options_of(case: Structured) -> dict[str, Any]:
    outputs = [name for name in OUTPUTS if name != "prediction"]
    elements = ["loss", "prediction", "confidence_weighted_entropy", "grad_norm", "normalized_margin", "contribution"]
    return {"layout": case.layout, "outputs": outputs, "elements": elements, "top_regions": 5, "top_k": 3}


def assert_same(got: LossResult, expected: LossResult) -> None:
    tolerance = {"rtol": 2e-5, "atol": 2e-6}
    assert got.loss == (None if expected.loss is None else pytest.approx(expected.loss, rel=2e-5, abs=1e-7))
    for name in ("num_examples", "num_ignored", "num_elements"):
        assert getattr(got, name) == getattr(expected, name)
    assert [(hard.batch, hard.index) for hard in got.hardest] == [(hard.batch, hard.index) for hard in expected.hardest]
    for batch, other in zip(got.batches, expected.batches, strict=True):
        assert batch.per_example.keys() == other.per_example.keys()
        for name, values in other.per_example.items():
            np.testing.assert_allclose(batch.per_example[name], values, err_msg=name, **tolerance)
        for name, values in other.per_element.items():
            assert batch.per_element[name].shape == values.shape
            np.testing.assert_allclose(batch.per_element[name], values, err_msg=name, **tolerance)
        np.testing.assert_array_equal(batch.offsets, other.offsets)
        assert (batch.regions is None) == (other.regions is None)
        if batch.regions is not None and other.regions is not None:
            assert sorted(batch.regions.number) == sorted(other.regions.number)
            np.testing.assert_array_equal(batch.regions.offsets, other.regions.offsets)


DTYPES = [np.float16, np.float32, np.float64, bfloat16, torch.float16, torch.float32, torch.float64, torch.bfloat16]


@at_most(80, deadline=None)
@given(
    case=structured_batches(),
    dtype=st.sampled_from(DTYPES),
    reduction=st.sampled_from(["mean", "sum", "weighted_mean", "none"]),
    divisor=st.sampled_from(["elements", "examples", "positives"]),
    within=st.sampled_from(["mean", "sum", "max", {"top_share": 0.5}]),
    chunk=st.sampled_from([1, 7, 2**21]),
)
def test_same_results_as_with_the_logits(
    loss_client: LossClient, case: Structured, dtype: Any, reduction: str, divisor: str, within: Any, chunk: int
) -> None:
    logits: Any = case.batch.logits
    is_torch = isinstance(dtype, torch.dtype)
    logits = torch.from_numpy(logits).to(dtype).requires_grad_() if is_torch else logits.astype(dtype)
    options = options_of(case) | {"config": case.config | {"reduction": reduction}, "offsets": case.batch.offsets}
    options |= {"divisor": divisor, "within": within}
    expected = loss_client.loss(logits, case.batch.targets, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHUNK_LOGITS, "cpu", chunk)
        got = loss_client.loss(logits, case.batch.targets, reduce=True, **options)
    assert_same(got, expected)


def test_batches_and_streams(loss_client: LossClient) -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(size, 3, 4)).astype(np.float32), rng.integers(0, 3, (size, 4))) for size in (2, 1, 3)]
    options: dict[str, Any] = {"layout": "dense", "elements": ["p_t", "prediction"], "top_regions": 2, "top_k": 4}
    expected = loss_client.loss_batches(batches, **options)
    assert_same(loss_client.loss_batches(batches, reduce=True, **options), expected)
    held = loss_client.put_config({}).config_id
    stream = loss_client.stream(batches, config=held, reduce=True, **options)
    results = list(stream)
    assert [result.per_element["p_t"].shape for result in results] == [(2, 4), (1, 4), (3, 4)]
    assert stream.totals.loss == pytest.approx(expected.loss, rel=1e-5)
    assert [(hard.batch, hard.index) for hard in stream.totals.hardest] == [
        (hard.batch, hard.index) for hard in expected.hardest
    ]
    sizes = loss_client.loss_batches([(rng.normal(size=(1, 2, n)), np.zeros((1, n), int)) for n in (2, 3)], **options)
    assert [batch.per_element["p_t"].shape for batch in sizes.batches] == [(1, 2), (1, 3)]


def test_the_number_of_classes_is_sent(loss_client: LossClient) -> None:
    outputs = ["confidence_weighted_entropy"]
    expected = loss_client.loss(LOGITS, [0, 1], outputs=outputs)
    assert_same(loss_client.loss(LOGITS, [0, 1], outputs=outputs, reduce=True), expected)
    # Batches of several widths have no common number.
    with pytest.raises(NeedsLogitsError):
        loss_client.loss_batches([(LOGITS, [0, 1]), (LOGITS[:, :2], [0, 1])], outputs=outputs, reduce=True)
    stream = loss_client.stream([(LOGITS, [0, 1]), (LOGITS[:, :2], [0, 1])], outputs=outputs, reduce=True)
    assert len(list(stream)) == 2


def test_async_client() -> None:
    import httpx

    sent: list[bytes] = []

    def record(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path.encode())
        return httpx.Response(500)

    async def reduce() -> None:
        async with AsyncLossClient("http://service", transport=httpx.MockTransport(record)) as client:
            with pytest.raises(NeedsLogitsError):
                await client.loss(np.zeros((1, 2)), np.array([[0.5, 0.5]]), reduce=True)

    asyncio.run(reduce())
    assert sent == []


def test_statistics_of_a_mapping_or_a_table(loss_client: LossClient) -> None:
    import pyarrow as pa

    expected = loss_client.loss(np.array([[2.0, 0.5], [0.3, 0.2]]), [0, 1], outputs=["loss", "log_odds"])
    statistics = {"log_odds": expected.per_example["log_odds"], "label": [0, 1], "id": ["a", "b"]}
    for batch in (statistics, pa.table(statistics)):
        (result,) = loss_client.loss_batches([batch]).batches
        assert result.ids == ["a", "b"]
        np.testing.assert_allclose(result.per_example["loss"], expected.per_example["loss"], rtol=1e-6)


@pytest.mark.parametrize("reduce", [False, True])
def test_tables_of_nested_lists(loss_client: LossClient, reduce: bool) -> None:
    import pyarrow as pa

    logits, targets = [[[2.0, 0.5], [0.3, 0.2]], [], [[1.0, 0.0]]], [[0, 1], [], [-100]]
    table = pa.table(
        {"logits": pa.array(logits, pa.list_(pa.list_(pa.float32()))), "y": targets, "id": ["a", "b", "c"]}
    )
    flat = np.array([[2.0, 0.5], [0.3, 0.2], [1.0, 0.0]], np.float32)
    expected = loss_client.loss(flat, [0, 1, -100], offsets=[0, 2, 2, 3], layout="ragged", elements=["loss"], top_k=1)
    got = loss_client.loss(table, layout="ragged", elements=["loss"], top_k=1, reduce=reduce)
    assert_same(got, expected)
    assert [hard.id for hard in got.hardest] == ["a"]
    masks = pa.table({"logits": np.swapaxes(flat[None], 1, 2).tolist(), "y": [[0, 1, -100]]})
    dense = loss_client.loss(np.swapaxes(flat[None], 1, 2), [[0, 1, -100]], layout="dense")
    (result,) = loss_client.stream([masks], layout="dense", reduce=reduce)
    assert result.loss == pytest.approx(dense.loss)


@pytest.mark.parametrize(
    ("columns", "layout", "error", "message"),
    [
        ({"logits": [[[1.0, 2.0]]], "y": [[0, 1]]}, "ragged", ShapeError, "row 0: 2 targets for 1 elements of logits"),
        ({"logits": [[[1.0], [2.0]], [[1.0]]], "y": [[0], [1]]}, "dense", ShapeError, "row 1: 1 values"),
        (
            {"logits": [[[1.0, None]]], "y": [[0]]},
            "ragged",
            InvalidRequestError,
            "row 0, element 0, column 1: no value",
        ),
        ({"logit_0": [1.0], "logit_1": [1.0], "y": [0]}, "dense", InvalidRequestError, "not one column for each class"),
        ({"log_odds": [[1.0, 2.0]], "y": [0]}, "ragged", InvalidTargetError, "a row is a list of elements"),
    ],
)
def test_faults_of_nested_tables(columns: dict[str, Any], layout: Any, error: type[Exception], message: str) -> None:
    import pyarrow as pa

    with pytest.raises(error, match=message):
        sent_batch(pa.table(columns), layout=layout)


@pytest.mark.parametrize(
    ("outputs", "num_classes", "nbytes"),
    [
        (["loss", "p_t", "num_valid"], 21, 4),
        (["loss", "prediction"], 21, 5),
        (["prediction"], 300, 6),
        (["prediction"], 40_000, 8),
        (["loss", "prediction", "logit_margin", "normalized_margin", "entropy", "el2n", "grad_norm"], 256, 17),
    ],
)
def test_bytes_of_an_element(outputs: list[str], num_classes: int, nbytes: int) -> None:
    logits, targets = np.zeros((2, num_classes, 3), np.float32), np.zeros((2, 3), np.uint8)
    reducer = Reducer(LossConfig(), "dense", needed_statistics("softmax", outputs))
    sent = sent_batch((logits, targets), reducer=reducer)
    assert sent.nbytes - targets.nbytes == nbytes * targets.size


def reduced(logits: Any, targets: Any, layout: Any = "rows", on_invalid: Any = "error", **parts: Any) -> Any:
    config = LossConfig(alpha=(1.0, 2.0, 3.0))
    batch = {"logits": logits, "targets": targets, **parts}
    return sent_batch(batch, 4, on_invalid=on_invalid, reducer=Reducer(config, layout, STATISTICS, on_invalid))


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (([[1, 2, 3]], [3]), InvalidTargetError, r"batch 4, row 0: target 3 is outside \[0, 3\)"),
        (([[1, 2, 3]], [0.5]), InvalidTargetError, "target 0.5"),
        ((np.zeros((2, 3, 5)), np.eye(2, 5, 3) * 9, "dense"), InvalidTargetError, "row 0, element 3: target 9"),
        (([[1, 2]], [0]), ShapeError, "alpha has 3 weights, the logits 2 classes"),
        (([[1, 2, 3]], [0, 1]), ShapeError, r"logits \[1, 3\] do not fit targets \[2\]"),
        (([[1, 2, 3]], [[0, 1, 0]]), NeedsLogitsError, "soft labels"),
        (([1, 2, 3], [0, 1, 0]), ShapeError, "layout rows"),
        (([[1, 2, 3]], [0], "dense"), ShapeError, "layout dense"),
    ],
)
def test_errors(batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reduced(*batch)


@pytest.mark.parametrize(
    ("logits", "targets", "fit"),
    [
        ((4,), (4,), True),
        ((4, 1), (4,), True),
        ((4,), (4, 1), True),
        ((2, 1, 3, 5), (2, 3, 5), True),
        ((2, 3, 5), (2, 1, 3, 5), True),
        ((2, 3, 5), (2, 5, 3), False),
        ((6,), (2, 3), False),
        ((4, 2), (4,), False),
    ],
)
def test_shapes_of_binary_logits(logits: tuple[int, ...], targets: tuple[int, ...], fit: bool) -> None:
    reducer = Reducer(LossConfig(mode="sigmoid"), "dense", ("log_odds",))
    batch = np.ones(logits), np.zeros(targets)
    if not fit:
        with pytest.raises(ShapeError, match="differ in sigmoid mode"):
            sent_batch(batch, reducer=reducer)
        return
    assert sent_batch(batch, reducer=reducer).tensors["log_odds"].shape == targets


@pytest.mark.parametrize(("shape", "layout"), [((6, 3), "rows"), ((2, 3, 4, 5), "dense")])
def test_probabilities_give_a_warning(shape: tuple[int, ...], layout: Any) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    targets = np.zeros((shape[0], *shape[2:]), np.int64)
    reduced(logits, targets, layout)
    with pytest.warns(UserWarning, match="batch 4: The rows look like probabilities"):
        reduced(logits.softmax(1), targets, layout)


def test_error_of_a_ragged_element() -> None:
    with pytest.raises(InvalidTargetError, match="batch 4, row 1, element 1: target 7"):
        reduced(np.zeros((3, 3)), [0, 1, 7], "ragged", offsets=np.array([0, 1, 3]))


def test_invalid_rows_are_excluded(loss_client: LossClient) -> None:
    logits = [[1.0, 2.0, 3.0], [np.nan, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    targets = [0, 1, 3, -100]
    full, thin = (loss_client.loss(logits, targets, on_invalid="exclude", reduce=reduce) for reduce in (False, True))
    assert [(row.index, row.code) for row in thin.excluded] == [(row.index, row.code) for row in full.excluded]
    assert_same(thin, full)


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="reduce=True computes with torch"):
        reduced([[1, 2, 3]], [0])


def test_logits_beyond_float32() -> None:
    tensors = reduced([[1e300, 0.0, -np.inf], [0.0, -np.inf, -np.inf]], [0, 0]).tensors
    log_odds = np.frombuffer(tensors["log_odds"].data, np.float32)
    assert log_odds.tolist() == [FLOAT32_MAX, np.inf]
