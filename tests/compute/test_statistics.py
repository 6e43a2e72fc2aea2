"""Batches with statistics in place of logits: the same results as from the logits, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidLogitError, InvalidRequestError, InvalidTargetError, NeedsLogitsError, ShapeError
from service.schema.request import OUTPUTS, STATISTICS, Batch
from tests.compute.sample_requests import REDUCTIONS, compute
from tests.compute.structured import Structured, structured_batches


def reduced(case: Structured) -> Batch:
    """The batch of a case with the statistics of its logits."""
    options: dict[str, Any] = {"layout": case.layout, "elements": STATISTICS, "outputs": []}
    (result,) = compute([case.batch], case.config, **options).batches
    shape = case.batch.targets.shape
    statistics = {name: values.reshape(shape) for name, values in result.per_element.items()}
    return Batch(np.empty(0), case.batch.targets, offsets=case.batch.offsets, statistics=statistics)


@given(case=structured_batches(), reduction=st.sampled_from(REDUCTIONS))
def test_the_result_is_that_of_the_logits(case: Structured, reduction: str) -> None:
    outputs = [name for name in OUTPUTS if name != "prediction"]
    options: dict[str, Any] = {
        "layout": case.layout,
        "outputs": [*outputs, "regions"],
        "elements": ["loss", "prediction"],
    }
    config = case.config | {"reduction": reduction}
    expected, got = (compute([batch], config, **options) for batch in (case.batch, reduced(case)))
    assert got.loss == (None if expected.loss is None else pytest.approx(expected.loss, rel=1e-12, abs=1e-300))
    assert (got.num_elements, got.num_ignored) == (expected.num_elements, expected.num_ignored)
    (batch,), (other,) = got.batches, expected.batches
    for name in outputs:
        np.testing.assert_allclose(
            batch.per_example[name], other.per_example[name], rtol=1e-9, atol=1e-12, err_msg=name
        )
    np.testing.assert_array_equal(batch.per_element["prediction"], other.per_element["prediction"])
    np.testing.assert_allclose(batch.per_element["loss"], other.per_element["loss"], rtol=1e-9)
    assert batch.regions is not None
    assert other.regions is not None
    np.testing.assert_array_equal(batch.regions.start, other.regions.start)
    np.testing.assert_allclose(batch.regions.loss_sum, other.regions.loss_sum, rtol=1e-9)


def with_log_odds(log_odds: Any, targets: Any, **statistics: Any) -> Batch:
    arrays = {name: np.array(values) for name, values in statistics.items()}
    return Batch(np.empty(0), np.array(targets), statistics={"log_odds": np.array(log_odds, np.float32)} | arrays)


@pytest.mark.parametrize(
    ("batch", "config", "options", "error", "message"),
    [
        (with_log_odds([1.0, 2.0], [0, 1]), {}, {"outputs": ["entropy"]}, NeedsLogitsError, "entropy does not follow"),
        (with_log_odds([1.0], [0]), {}, {"outputs": ["grad_norm"]}, NeedsLogitsError, "batch 0: grad_norm does not"),
        (with_log_odds([1.0], [0]), {}, {"elements": ["prediction"]}, NeedsLogitsError, "prediction does not follow"),
        (with_log_odds([1.0], [0]), {}, {"outputs": ["regions"]}, NeedsLogitsError, "prediction does not follow"),
        (
            with_log_odds([1.0], [0]),
            {"label_smoothing": 0.1},
            {},
            NeedsLogitsError,
            "label_smoothing the loss does not follow",
        ),
        (with_log_odds([1.0, 2.0], [1, 0.25]), {"mode": "sigmoid"}, {}, NeedsLogitsError, "row 1, column 0: .*soft"),
        (
            Batch(
                np.empty(0),
                np.array([1, 0, 1, 0.25]),
                offsets=np.array([0, 1, 4]),
                statistics={"log_odds": np.ones(4)},
            ),
            {"mode": "sigmoid"},
            {"layout": "ragged"},
            NeedsLogitsError,
            "row 1, element 2: .*soft",
        ),
        (with_log_odds([1.0, 2.0], [0]), {}, {}, ShapeError, r"log_odds \[2\] .*targets \[1\]"),
        (with_log_odds([1.0], [0], entropy=[1.0, 2.0]), {}, {}, ShapeError, r"entropy \[2\]"),
        (with_log_odds([1.0, np.nan], [0, 1]), {}, {}, InvalidLogitError, "batch 0, row 1: log_odds NaN"),
        (with_log_odds([-np.inf], [0]), {}, {}, InvalidLogitError, "batch 0, row 0: log_odds -inf"),
        (
            with_log_odds([1.0, 2.0], [0, 3]),
            {"alpha": [1.0, 2.0]},
            {},
            InvalidTargetError,
            r"row 1: target 3 .*\[0, 2\)",
        ),
        (with_log_odds([1.0], [-1]), {}, {}, InvalidTargetError, r"target -1 is outside \[0, 2147483647\)"),
        (with_log_odds([1.0], [0], logits=[1.0]), {}, {}, InvalidRequestError, "unknown statistic 'logits'"),
        (
            Batch(np.zeros((1, 2)), np.array([0]), statistics={"log_odds": np.ones(1)}),
            {},
            {},
            InvalidRequestError,
            "not both",
        ),
        (
            Batch(np.empty(0), np.array([0]), statistics={"entropy": np.ones(1)}),
            {},
            {},
            InvalidRequestError,
            "need log_odds",
        ),
    ],
)
def test_errors(batch: Batch, config: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute([batch], config, **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("prediction", 2), ("prediction", 0.5), ("prediction", -1), ("entropy", np.nan), ("el2n", np.inf)],
)
def test_invalid_statistic(name: str, value: float) -> None:
    batch = with_log_odds([1.0, 2.0], [0, 1], **{name: [0, value]})
    with pytest.raises(InvalidLogitError, match=f"batch 0, row 1: {name} "):
        compute([batch], {"alpha": [1.0, 2.0]}, outputs=["loss", name])
    # An output that does not need the statistic does not read it.
    assert compute([batch], {"alpha": [1.0, 2.0]}).loss is not None


def test_number_of_classes() -> None:
    batch = with_log_odds([1.0, 2.0], [0, 3], prediction=[4, 0], entropy=[0.5, 0.25])
    outputs = ["confidence_weighted_entropy"]
    with pytest.raises(NeedsLogitsError, match="confidence_weighted_entropy does not follow"):
        compute([batch], outputs=outputs)
    assert compute([batch], outputs=outputs, num_classes=5).num_examples == 2
    with pytest.raises(InvalidTargetError, match=r"row 1: target 3 is outside \[0, 3\)"):
        compute([batch], num_classes=3)
    with pytest.raises(InvalidLogitError, match="row 0: prediction 4 is not the number of a class"):
        compute([batch], elements=["prediction"], num_classes=4)
    with pytest.raises(ShapeError, match="alpha has 2 weights, num_classes is 4"):
        compute([batch], {"alpha": [1.0, 2.0]}, num_classes=4)
    with pytest.raises(ShapeError, match="num_classes is 4, the logits have 3 classes"):
        compute([Batch(np.zeros((1, 3)), np.array([0]))], num_classes=4)
    assert compute([Batch(np.empty(0), np.empty(0, np.int64))], num_classes=4).num_examples == 0
    with pytest.raises(InvalidRequestError, match="num_classes is for softmax mode"):
        compute([batch], {"mode": "sigmoid"}, num_classes=4)


def test_outputs_that_follow_from_a_statistic() -> None:
    logits = np.array([[2.0, 0.5, -1.0], [0.3, 0.2, 0.9], [90.0, -5.0, 0.0], [-90.0, 5.0, 0.0]])
    targets, config = np.array([0, 1, 0, 0]), {"gamma": 1.5, "alpha": [1.0, 2.0, 0.5]}
    outputs = ["normalized_margin", "grad_norm"]
    expected = compute([Batch(logits, targets)], config, outputs=["log_odds", "logit_margin", "el2n", *outputs])
    sent = {name: expected.per_example[name].astype(np.float32) for name in ("log_odds", "logit_margin", "el2n")}
    got = compute([Batch(np.empty(0), targets, statistics=sent)], config, outputs=outputs)
    # The difference of two float32 near 100 errs by up to 1e-5.
    for name, atol in (("normalized_margin", 1e-5), ("grad_norm", 1e-44)):
        np.testing.assert_allclose(got.per_example[name], expected.per_example[name], rtol=1e-5, atol=atol)


@pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
def test_integers_are_log_odds(mode: str) -> None:
    batches = [
        Batch(np.empty(0), np.array([0, 1]), statistics={"log_odds": np.array([3, -1], dtype)})
        for dtype in (np.int8, np.float64)
    ]
    whole, floats = (compute([batch], {"mode": mode}, outputs=["loss", "p_t"]) for batch in batches)
    assert whole.per_example["p_t"].tolist() == floats.per_example["p_t"].tolist()
    assert whole.loss == floats.loss


def test_invalid_elements_are_excluded() -> None:
    batch = with_log_odds([1.0, np.nan, 2.0], [0, 1, -100])
    result = compute([batch], {}, on_invalid="exclude")
    assert [(row.index, row.code) for row in result.excluded] == [(1, "invalid_logit")]
    assert (result.num_elements, result.num_ignored, result.num_excluded) == (1, 1, 1)
