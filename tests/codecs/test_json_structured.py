"""Dense and ragged batches in JSON: nested lists become arrays and offsets; errors name example and element."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.codecs.base import DecodeOptions
from service.codecs.json import JsonCodec
from service.errors import LossServiceError
from service.schema.request import Batch
from tests.codecs.outcomes import Stopwatch, error_of
from tests.codecs.splitting import NEVER, bodies_split_from
from tests.strategies import at_most

CODEC = JsonCodec()


@pytest.fixture(
    autouse=True,
    params=[pytest.param(0, id="scanner"), pytest.param(NEVER, id="simdjson", marks=pytest.mark.slow)],
)
def _split_arrays(request: pytest.FixtureRequest) -> Iterator[None]:
    with bodies_split_from(request.param):
        yield


def body(**members: Any) -> bytearray:
    return bytearray(json.dumps(members).encode())


def decoded(layout: str, logits: Any, targets: Any, **members: Any) -> Batch:
    (batch,) = CODEC.decode(body(layout=layout, logits=logits, targets=targets, **members)).batches
    return batch


def lists(values: np.ndarray[Any, Any], offsets: list[int]) -> list[Any]:
    return [values[start:stop].tolist() for start, stop in pairwise(offsets)]


@at_most(50, deadline=None)
@given(logits=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=8, max_side=3), elements=st.integers(-9, 9)))
def test_dense(logits: np.ndarray[Any, Any]) -> None:
    targets = logits[:, 0].astype(np.int64)
    for part in (targets, logits + 0.5):
        batch = decoded("dense", logits.tolist(), part.tolist())
        assert np.array_equal(batch.logits, logits)
        assert np.array_equal(batch.targets, part)
        assert batch.targets.dtype == part.dtype
        assert batch.offsets is None


@at_most(50, deadline=None)
@given(lengths=st.lists(st.integers(0, 4), max_size=5), width=st.integers(0, 3), soft=st.booleans())
def test_ragged(lengths: list[int], width: int, soft: bool) -> None:
    offsets = np.cumsum([0, *lengths]).tolist()
    shape = (offsets[-1], width) if width else (offsets[-1],)
    logits = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    targets = logits / 2 if soft else np.arange(offsets[-1])
    batch = decoded("ragged", lists(logits, offsets), lists(targets, offsets))
    assert batch.offsets is not None
    assert batch.offsets.tolist() == offsets
    assert batch.offsets.dtype == np.int64
    # Without an element its shape is unknown.
    assert np.array_equal(batch.logits, logits if offsets[-1] else np.empty(0))
    assert np.array_equal(batch.targets, targets if offsets[-1] else np.empty(0))
    assert batch.num_examples == len(lengths)


def test_ids_are_of_the_examples() -> None:
    assert decoded("ragged", [[[0, 1], [2, 3]], []], [[0, 1], []], ids=["a", "b"]).ids == ["a", "b"]


def test_labels_of_other_types() -> None:
    batch = decoded("dense", [[[0, 1], [2, 3]]], [[None, "1"]])
    assert batch.targets.tolist() == [[None, "1"]]
    batch = decoded("ragged", [[[0, 1]], [[2, 3]]], [[True], ["cat"]])
    assert batch.targets.tolist() == [True, "cat"]


def test_missing_logits_are_nan_to_be_excluded() -> None:
    batch = decoded("dense", [[[0, None], [2, 3]]], [[0, 1]], on_invalid="exclude")
    assert np.array_equal(batch.logits, [[[0, np.nan], [2, 3]]], equal_nan=True)
    batch = decoded("ragged", [[[0, 1]], [[None, 3]]], [[0], [1]], on_invalid="exclude")
    assert np.array_equal(batch.logits, [[0, 1], [np.nan, 3]], equal_nan=True)


BAD: list[tuple[str, Any, Any, str, str, list[Any]]] = [
    ("dense", [[[1, 2], [3]]], [[0]], "invalid_shape", "row 0, element 1 of logits has 1 values", ["logits", 0, 1]),
    ("dense", [[[1, 2]], [[3]]], [[0]], "invalid_shape", "row 1, element 0 of logits has 1 values", ["logits", 1, 0]),
    ("dense", [[[1, 2]], [3]], [[0]], "invalid_shape", "row 1, element 0 of logits is not a list", ["logits", 1, 0]),
    ("dense", [[[[1]], [[2], [3]]]], [[0]], "invalid_shape", "row 0, element 1 of logits has 2", ["logits", 0, 1]),
    ("dense", [[[[1]], [[2, 3]]]], [[0]], "invalid_shape", "element [1, 0] of logits has 2", ["logits", 0, 1, 0]),
    ("dense", [[[1, 2], None]], [[0, 0]], "invalid_logit", "row 0, element 1: null is not a list", ["logits", 0, 1]),
    ("dense", [[[1, [2]]]], [[0]], "invalid_logit", "row 0, element [0, 1]: a list is not", ["logits", 0, 0, 1]),
    ("dense", [[[1, "2"]]], [[0]], "invalid_logit", 'element [0, 1]: "2" is not', ["logits", 0, 0, 1]),
    ("dense", [[[1, 2]]], [[0, [1]]], "invalid_target", "row 0, element 1: a list is not a label", ["targets", 0, 1]),
    ("dense", 1, [[0]], "invalid_request", "logits is a list", ["logits"]),
    ("ragged", [1.0], [[0]], "invalid_shape", "row 0 of logits is not a list", ["logits", 0]),
    ("ragged", [[1], None], [[0], [1]], "invalid_logit", "row 1: null is not a list", ["logits", 1]),
    ("ragged", [[1]], [[0], None], "invalid_shape", "row 1 of targets is not a list", ["targets", 1]),
    ("ragged", [[[1, 2]], [[3]]], [[0], [0]], "invalid_shape", "row 1, element 0 of logits has 1", ["logits", 1, 0]),
    ("ragged", [[[1, 2]], [3]], [[0], [0]], "invalid_shape", "element 0 of logits is not a list", ["logits", 1, 0]),
    ("ragged", [[1], [[3, 4]]], [[0], [0]], "invalid_shape", "the first one is a number", ["logits", 1, 0]),
    ("ragged", [[1, [2]]], [[0, 0]], "invalid_logit", "row 0, element 1: a list is not", ["logits", 0, 1]),
    ("ragged", [[[1, True]]], [[0]], "invalid_logit", "row 0, element 0, column 1: true", ["logits", 0, 0, 1]),
    ("ragged", [[[1, 2]]], [[0, 1]], "invalid_shape", "row 0: 2 targets for 1 elements", ["targets", 0]),
    ("ragged", [[[1, 2]]], [[0], [1]], "invalid_shape", "2 lists of targets for 1 lists", ["targets"]),
    ("ragged", [[[1, 2]]], [0], "invalid_shape", "row 0 of targets is not a list", ["targets", 0]),
]


@pytest.mark.parametrize(("layout", "logits", "targets", "code", "detail", "loc"), BAD)
def test_bad_lists_are_named(layout: str, logits: Any, targets: Any, code: str, detail: str, loc: list[Any]) -> None:
    error = error_of(CODEC, body(layout=layout, logits=logits, targets=targets))
    assert error.code == code
    assert detail in error.detail
    assert error.errors[0]["loc"] == ["batches", 0, *loc]


def test_lists_deeper_than_an_array_may_be() -> None:
    logits: Any = [1.0, 2.0]
    for _ in range(8):
        logits = [logits]
    assert error_of(CODEC, body(layout="dense", logits=logits, targets=[0])).code == "invalid_logit"
    nested = b"[" * 100_000 + b"]" * 100_000
    error_of(CODEC, b'{"layout": "dense", "targets": [0], "logits": %b}' % nested)


@pytest.mark.parametrize(
    "lists",
    [b"[[" + b"[0]," * 250_000 + b"[0]]]", b"[" + b"[0]," * 250_000 + b"[0]]", b"[" + b"[]," * 300_000 + b"[]]"],
    ids=["dense", "examples of one element", "empty examples"],
)
@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_many_tiny_lists_take_time_by_their_number(layout: str, lists: bytes) -> None:
    text = b'{"layout": "%b", "logits": %b, "targets": %b}' % (layout.encode(), lists, lists)
    with Stopwatch() as watch:
        CODEC.decode(bytearray(text))
    assert watch.seconds < 2


def test_labels_that_are_no_numbers_are_bounded() -> None:
    with pytest.raises(LossServiceError) as caught:
        CODEC.decode(body(layout="dense", logits=[[0.5] * 4], targets=[["x"] * 4]), DecodeOptions(max_rows=3))
    assert caught.value.code == "too_many_examples"
