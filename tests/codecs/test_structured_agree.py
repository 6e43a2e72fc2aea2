"""The same structured batch in every format is the same batch, and has the same result or the same error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.errors import LossServiceError
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import LossRequest
from service.schema.result import LossResult
from service.schema.structure import Regions
from tests.codecs.structured_forms import Array, Examples, Structured, decoders
from tests.strategies import at_most

LIMITS = Limits(100_000, 1000)
OUTPUTS = ["loss", "contribution", "p_t", "entropy", "num_valid", "label_quality", "max_loss"]
ELEMENTS = ["loss", "contribution", "p_t", "prediction"]


@pytest.fixture(scope="module")
def device() -> Device:
    return Device("cpu")


@st.composite
def requests(draw: st.DrawFn) -> tuple[Structured, LossConfig]:
    layout, mode = draw(st.sampled_from(["dense", "ragged", "rows"])), draw(st.sampled_from(["softmax", "sigmoid"]))
    labels = draw(st.integers(2, 3) if mode == "softmax" else st.integers(1, 3))
    axes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)) if layout == "dense" else []
    # Soft labels have the axis of the classes.
    soft = mode == "softmax" and draw(st.booleans())
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    batches = [_batch(draw, numbers, layout, mode, soft, size, labels, axes) for size in sizes]
    options: dict[str, Any] = {
        "outputs": OUTPUTS if draw(st.booleans()) else ["loss"],
        "elements": ELEMENTS if draw(st.booleans()) else [],
        "divisor": draw(st.sampled_from(["elements", "examples", "positives", 2.5])),
        "within": draw(st.sampled_from(["mean", "sum", "max", {"top_share": 0.5}])),
    }
    if draw(st.booleans()):
        options["top_regions"] = draw(st.integers(0, 3))
    return Structured(layout, batches, options), LossConfig(mode=mode)


def _batch(
    draw: st.DrawFn,
    numbers: np.random.Generator,
    layout: str,
    mode: str,
    soft: bool,
    size: int,
    labels: int,
    axes: list[int],
) -> Examples:
    offsets = None
    if layout == "ragged":
        lengths = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any))
        offsets = np.cumsum([0, *lengths])
        size = int(offsets[-1])
    logits = numbers.normal(size=(size, labels, *axes)) * 3
    if mode == "sigmoid":
        targets = numbers.integers(0, 2, logits.shape)
    elif soft:
        shares = numbers.random(logits.shape)
        targets = shares / shares.sum(axis=1, keepdims=True)
    else:
        targets = numbers.integers(0, labels, (size, *axes))
    ignored = numbers.random((size, *axes)) < 0.2
    if not soft:
        targets[np.broadcast_to(ignored[:, None], logits.shape) if mode == "sigmoid" else ignored] = -100
    return Examples({"logits": logits, "targets": targets}, offsets)


def result_or_error(device: Device, decode: Any, config: LossConfig) -> Any:
    try:
        request = decode()
        return request, evaluate(device, FocalLoss.from_config(config, "cpu"), request, LIMITS)
    except LossServiceError as error:
        return error.status, error.code, [item["loc"] for item in error.errors]


def same(name: str, got: Array | None, expected: Array | None) -> None:
    if got is None or expected is None:
        assert got is expected, name
        return
    assert (got.shape, got.dtype.kind) == (expected.shape, expected.dtype.kind), name
    assert np.array_equal(got, expected, equal_nan=got.dtype.kind == "f"), name


def same_request(got: LossRequest, expected: LossRequest) -> None:
    # The inference protocol has an output of another name in the place of `loss`.
    assert got.options.model_dump(exclude={"outputs"}) == expected.options.model_dump(exclude={"outputs"})
    for batch, other in zip(got.batches, expected.batches, strict=True):
        assert batch.ids == other.ids
        for part in ("logits", "targets", "offsets"):
            same(part, getattr(batch, part), getattr(other, part))


def same_result(got: LossResult, expected: LossResult) -> None:
    assert (got.loss, got.num_examples, got.num_elements) == (
        expected.loss,
        expected.num_examples,
        expected.num_elements,
    )
    for batch, other in zip(got.batches, expected.batches, strict=True):
        assert (batch.loss, batch.loss_sum, batch.num_ignored) == (other.loss, other.loss_sum, other.num_ignored)
        for outputs, others in ((batch.per_example, other.per_example), (batch.per_element, other.per_element)):
            assert outputs.keys() == others.keys()
            for name, values in outputs.items():
                same(name, values, others[name])
        assert (batch.regions is None) == (other.regions is None)
        for name in Regions.__dataclass_fields__ if batch.regions is not None else ():
            same(name, getattr(batch.regions, name), getattr(other.regions, name))


@at_most(100, deadline=None)
@given(sent=requests())
def test_same_request_and_result(device: Device, sent: tuple[Structured, LossConfig]) -> None:
    structured, config = sent
    results = {name: result_or_error(device, decode, config) for name, decode in decoders(structured)}
    (request, result), *others = results.values()
    for got_request, got_result in others:
        same_request(got_request, request)
        same_result(got_result, result)
    assert {"application/json", "application/x-safetensors", "application/vnd.apache.arrow.stream"} <= results.keys()


RNG = np.random.default_rng(0)
DENSE = Examples({"logits": RNG.normal(size=(2, 3, 2, 2)), "targets": RNG.integers(0, 3, (2, 2, 2))})
RAGGED = Examples({"logits": RNG.normal(size=(4, 3)), "targets": RNG.integers(0, 3, 4)}, np.array([0, 1, 4]))
LABELS = Examples({"logits": RNG.normal(size=(2, 3, 2)), "targets": RNG.integers(0, 2, (2, 3, 2))})
SOFT = Examples({"logits": RNG.normal(size=(2, 3, 2)), "targets": np.full((2, 3, 2), 1 / 3)})
SOFTMAX, SIGMOID = LossConfig(), LossConfig(mode="sigmoid")


def changed(examples: Examples, part: str, place: tuple[int, ...], value: float) -> Examples:
    values = examples.parts[part].copy()
    values[place] = value
    return examples._replace(parts=examples.parts | {part: values})


@pytest.mark.parametrize(
    ("layout", "examples", "config", "code", "loc"),
    [
        ("dense", changed(DENSE, "targets", (1, 0, 1), 3), SOFTMAX, "invalid_target", ["targets", 1, 0, 1]),
        ("ragged", changed(RAGGED, "targets", (3,), -1), SOFTMAX, "invalid_target", ["targets", 1, 2]),
        ("dense", changed(LABELS, "targets", (1, 2, 1), 2), SIGMOID, "invalid_target", ["targets", 1, 2, 1]),
        ("dense", changed(SOFT, "targets", (1, 2, 1), 2.0), SOFTMAX, "invalid_target", ["targets", 1, 1]),
        ("dense", changed(DENSE, "logits", (0, 2, 1, 1), 1e300), LossConfig(alpha=[1, 1]), "invalid_shape", ["logits"]),
        ("ragged", RAGGED._replace(ids=["a", "a"]), SOFTMAX, "invalid_ids", ["ids", 1]),
    ],
)
def test_same_error(
    device: Device, layout: str, examples: Examples, config: LossConfig, code: str, loc: list[Any]
) -> None:
    errors = {
        name: result_or_error(device, decode, config) for name, decode in decoders(Structured(layout, [examples]))
    }
    assert len(errors) == 7
    for name, error in errors.items():
        assert error[1] == code, (name, error)
        assert error[2][0] == ["batches", 0, *loc], (name, error)


@pytest.mark.parametrize(("layout", "examples", "place"), [("dense", DENSE, (1, 2, 0, 1)), ("ragged", RAGGED, (2, 1))])
def test_missing_logits_are_excluded(device: Device, layout: str, examples: Examples, place: tuple[int, ...]) -> None:
    sent = Structured(layout, [changed(examples, "logits", place, np.nan)], {"on_invalid": "exclude"})
    for name, decode in decoders(sent):
        _, result = result_or_error(device, decode, SOFTMAX)
        assert (result.num_examples, result.num_excluded) == (2, 1), name
        assert [(row.index, row.code) for row in result.excluded] == [(1, "invalid_logit")], name
