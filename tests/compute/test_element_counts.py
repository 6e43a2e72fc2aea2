"""Elements that stand for several: the loss of a batch with counts equals that of the repeated elements."""

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
from service.schema.request import NO_LOGITS, Batch, LossRequest, RequestOptions
from service.schema.result import BatchResult

LIMITS = Limits(10**6, 10**5)
CONFIGS = [
    LossConfig(alpha=(0.5, 1.0, 3.0), gamma=1.5),
    LossConfig(reduction="weighted_mean", alpha=(0.5, 1.0, 3.0)),
    LossConfig(reduction="sum"),
    LossConfig(mode="sigmoid", alpha=0.25, gamma_negative=3, clip=0.05),
]
OUTPUTS = ("loss", "contribution", "cross_entropy", "p_t", "num_valid", "label_quality", "max_loss")


def result(config: LossConfig, batch: Batch, **options: Any) -> BatchResult:
    parsed = RequestOptions.parse({"layout": "ragged", "outputs": list(OUTPUTS), "top_k": 3, **options})
    request = LossRequest(parsed, (batch,))
    return evaluate(Device("cpu"), FocalLoss.from_config(config, "cpu"), request, LIMITS).batches[0]


@given(
    config=st.sampled_from(CONFIGS),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    within=st.sampled_from(["mean", "sum", "max"]),
    divisor=st.sampled_from(["elements", "examples", "positives"]),
)
def test_counts_repeat_elements(config: LossConfig, sizes: list[int], seed: int, within: str, divisor: str) -> None:
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    targets = rng.choice([0, 1, -100] if config.mode == "sigmoid" else [0, 1, 2, -100], total)
    z, counts = rng.normal(scale=4, size=total), rng.integers(1, 5, total)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    if divisor == "positives" and config.reduction == "weighted_mean":
        divisor = "elements"
    options: dict[str, Any] = {"within": within, "divisor": divisor}
    given_counts = Batch(NO_LOGITS, targets, offsets=offsets, statistics={"log_odds": z, "element_count": counts})
    repeated_offsets = np.concatenate(([0], np.cumsum(counts)))[offsets]
    repeated = Batch(
        NO_LOGITS,
        np.repeat(targets, counts),
        offsets=repeated_offsets,
        statistics={"log_odds": np.repeat(z, counts)},
    )
    got, expected = result(config, given_counts, **options), result(config, repeated, **options)
    for name in OUTPUTS:
        np.testing.assert_allclose(got.per_example[name], expected.per_example[name], rtol=1e-9, err_msg=name)
    assert (got.num_elements, got.num_ignored) == (expected.num_elements, expected.num_ignored)
    assert got.loss_sum == pytest.approx(expected.loss_sum)
    if got.loss is not None and config.reduction != "sum":
        assert got.loss == pytest.approx(expected.loss)


def test_contributions_of_elements_add_up() -> None:
    statistics = {"log_odds": np.array([-1.0, 2.0, 0.5]), "element_count": np.array([3, 1, 2])}
    batch = Batch(NO_LOGITS, np.array([0, 1, 2]), offsets=np.array([0, 2, 3]), statistics=statistics)
    got = result(LossConfig(), batch, elements=["contribution"])
    assert got.per_element["contribution"].sum() == pytest.approx(got.loss)
    np.testing.assert_allclose(
        np.add.reduceat(got.per_element["contribution"], [0, 2]), got.per_example["contribution"], rtol=1e-6
    )


@pytest.mark.parametrize("count", [0, -1, 1.5, float("nan"), 2**31])
def test_a_count_is_a_positive_integer(count: float) -> None:
    statistics = {"log_odds": np.zeros(2), "element_count": np.array([1, count])}
    batch = Batch(NO_LOGITS, np.zeros(2, np.int64), offsets=np.array([0, 2]), statistics=statistics)
    with pytest.raises(LossServiceError, match=r"element_count .* of element 1 of the batch is no integer from 1"):
        result(LossConfig(), batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "rows"}, "element_count is for the layout ragged"),
        ({"outputs": ["regions"]}, "regions needs the single elements"),
        ({"within": {"top_share": 0.5}}, "within needs the single elements"),
    ],
)
def test_other_requests_need_the_single_elements(options: dict[str, Any], message: str) -> None:
    statistics = {"log_odds": np.zeros(2), "element_count": np.ones(2), "prediction": np.zeros(2, np.int64)}
    offsets = None if "layout" in options else np.array([0, 2])
    batch = Batch(NO_LOGITS, np.zeros(2, np.int64), offsets=offsets, statistics=statistics)
    with pytest.raises(LossServiceError, match=message):
        result(LossConfig(), batch, **options)
