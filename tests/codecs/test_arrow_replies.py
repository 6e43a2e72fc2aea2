"""Outputs of elements and regions in Arrow replies: the columns hold what JSON holds."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.json import JsonCodec
from service.schema.result import LossResult
from tests.codecs import samples
from tests.codecs.test_json_elements import some_regions

Array = np.ndarray[Any, np.dtype[Any]]


def result(*batches: dict[str, Any]) -> LossResult:
    sample = samples.result({"loss": np.zeros(2, np.float32)})
    return replace(sample, batches=tuple(replace(sample.batches[0], **members) for members in batches))


def replies(of: LossResult) -> tuple[list[pa.RecordBatch], list[dict[str, Any]]]:
    """The record batches without the last, and the batches in JSON."""
    with pa.ipc.open_stream(io.BytesIO(ArrowCodec().encode(of))) as stream:
        *batches, last = stream
    assert len(last) == 0
    return batches, json.loads(JsonCodec().encode(of))["batches"]


def values(*shape: int) -> dict[str, Array]:
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    numbers.flat[:1] = np.nan
    return {"loss": numbers, "prediction": np.where(np.isnan(numbers), -1, numbers).astype(np.int64)}


RAGGED = np.array([0, 0, 3])
CASES: list[tuple[list[dict[str, Any]], str]] = [
    ([{"per_element": values(2)}], "float"),
    ([{"per_element": values(2, 3)}], "list<item: float>"),
    ([{"per_element": values(2, 3, 1)}, {"per_element": values(2, 1, 2)}], "list<item: list<item: float>>"),
    ([{"per_element": values(2, 0)}], "list<item: float>"),
    ([{"per_element": values(3), "offsets": RAGGED}], "list<item: float>"),
    ([{"per_element": values(3, 2), "offsets": RAGGED}], "list<item: list<item: float>>"),
    ([{"per_element": values(0), "offsets": np.array([0, 0, 0])}], "list<item: float>"),
]


@pytest.mark.parametrize(("batches", "kind"), CASES)
def test_outputs_of_elements(batches: list[dict[str, Any]], kind: str) -> None:
    of = result(*batches)
    record_batches, in_json = replies(of)
    assert record_batches[0].schema.names == ["index", "loss", "per_element.loss", "per_element.prediction"]
    assert str(record_batches[0].schema.field("per_element.loss").type) == kind
    for record_batch, expected in zip(record_batches, in_json, strict=True):
        for name in ("loss", "prediction"):
            assert record_batch.column(f"per_element.{name}").to_pylist() == expected["per_element"][name]


def test_a_batch_without_elements_among_others() -> None:
    offsets = np.array([0, 0, 0])
    of = result({"per_element": values(0), "offsets": offsets}, {"per_element": values(3, 2), "offsets": RAGGED})
    record_batches, in_json = replies(of)
    for record_batch, expected in zip(record_batches, in_json, strict=True):
        assert record_batch.column("per_element.loss").to_pylist() == expected["per_element"]["loss"]


@pytest.mark.parametrize("counts", [[0, 0], [1, 0], [2, 3]])
def test_regions(counts: list[int]) -> None:
    ((record_batch,), (expected,)) = replies(result({"regions": some_regions(counts)}))
    assert record_batch.column("regions").to_pylist() == expected["per_example"]["regions"]
