"""The results of requests: reductions, contributions, rows that do not count, the hardest examples, and errors.

`tests/loss/properties` tests the scores of single rows, with `evaluate` as one of the implementations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.compute.device import Device
from service.compute.evaluation import ERRORS_NAMED, Limits, evaluate
from service.errors import (
    InvalidIdsError,
    InvalidLogitError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.loss.arrays import as_array
from service.loss.focal import FocalLoss
from service.loss.scores import Scores
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS, Batch, LossRequest, RequestOptions
from service.schema.result import EXCLUDED_LISTED, LossResult
from tests.strategies import PlainBatch, at_most, softmax_batches

NAN, INF = math.nan, math.inf
REDUCTIONS = ("mean", "sum", "weighted_mean", "none")


class CountingDevice(Device):
    """Counts the batches that were computed."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.computed = 0

    def score(self, module: FocalLoss, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Scores:
        self.computed += 1
        return super().score(module, logits, targets, outputs)


DEVICE = CountingDevice()


def of_tensors(logits: Tensor, targets: Tensor, ids: Sequence[str | int] | None = None) -> Batch:
    return Batch(as_array(logits), as_array(targets), ids)


def tensor(values: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, dtype=dtype) if dtype else torch.tensor(values)


def batch(logits: Any, targets: Any, ids: list[str | int] | None = None) -> Batch:
    """A batch as decoded from JSON: float64 logits, and int64 targets if all are integers."""
    return of_tensors(tensor(logits, torch.float64), targets if isinstance(targets, Tensor) else tensor(targets), ids)


def compute(
    batches: Sequence[Batch],
    config: dict[str, Any] | None = None,
    limits: Limits = Limits(1000, 5000),  # noqa: B008
    **options: Any,
) -> LossResult:
    module = FocalLoss.from_config(LossConfig.parse(config or {}), "cpu")
    return evaluate(DEVICE, module, LossRequest(RequestOptions.parse(options), tuple(batches)), limits)


def refused(batches: Sequence[Batch], config: dict[str, Any] | None = None, **options: Any) -> LossServiceError:
    """The error of a request; checks that errors of shapes, ids and limits are raised before anything is computed."""
    before = DEVICE.computed
    with pytest.raises(LossServiceError) as caught:
        compute(batches, config, **options)
    if isinstance(caught.value, ShapeError | InvalidIdsError | TooManyElementsError | TooManyExamplesError):
        assert DEVICE.computed == before
    return caught.value


def locations(error: LossServiceError) -> list[list[str | int]]:
    return [item["loc"] for item in error.errors]


def column(result: LossResult, name: str) -> list[Any]:
    return np.concatenate([part.per_example[name] for part in result.batches]).tolist()


def focal(logits: Sequence[float], target: int, gamma: float, weight: float = 1.0) -> float:
    """Equation 5 of the paper; accurate for logits that are not far apart."""
    powers = [math.exp(value) for value in logits]
    p_t = powers[target] / sum(powers)
    return weight * (1 - p_t) ** gamma * -math.log(p_t)


LOGITS = [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9], [0.0, 1.0, 2.0], [-1.0, 0.5, 0.5]]
TARGETS = [0, 1, -100, 2]
ALPHA = [1.0, 2.0, 4.0]
LOSSES = [focal(row, t, 2, ALPHA[t]) if t >= 0 else 0.0 for row, t in zip(LOGITS, TARGETS, strict=True)]
DIVISORS = {"mean": 3.0, "sum": 1.0, "weighted_mean": 7.0, "none": 1.0}


class TestReductions:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_one_batch(self, reduction: str) -> None:
        config = {"alpha": ALPHA, "reduction": reduction}
        result = compute([batch(LOGITS, TARGETS, ["a", "b", "c", "d"])], config, outputs=["loss", "contribution"])
        (part,) = result.batches
        assert part.per_example["loss"].tolist() == pytest.approx(LOSSES, rel=1e-12)
        assert part.loss_sum == pytest.approx(sum(LOSSES), rel=1e-12)
        assert part.alpha_sum == 7.0
        assert (part.num_examples, part.num_ignored, part.num_excluded) == (4, 1, 0)
        divisor = DIVISORS[reduction]
        assert part.per_example["contribution"].tolist() == pytest.approx(
            [loss / divisor for loss in LOSSES], rel=1e-12
        )
        expected = None if reduction == "none" else pytest.approx(sum(LOSSES) / divisor, rel=1e-12)
        assert part.loss == expected
        assert result.loss == expected
        assert part.ids == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_a_request_is_reduced_over_the_examples_of_all_batches(self, reduction: str) -> None:
        config = {"alpha": ALPHA, "reduction": reduction}
        sizes = [1, 0, 2, 1]
        parts, start = [], 0
        for size in sizes:
            logits = tensor(LOGITS[start : start + size], torch.float64).reshape(size, 3)
            parts.append(of_tensors(logits, tensor(TARGETS[start : start + size], torch.int64)))
            start += size
        result, whole = compute(parts, config), compute([batch(LOGITS, TARGETS)], config)
        assert result.loss == (None if whole.loss is None else pytest.approx(whole.loss, rel=1e-14))
        assert (result.num_examples, result.num_ignored) == (4, 1)
        assert [part.num_examples for part in result.batches] == sizes
        assert [part.num_ignored for part in result.batches] == [0, 0, 1, 0]
        assert column(result, "loss") == pytest.approx(LOSSES, rel=1e-12)
        means = {"mean": [1, None, 1, 1], "weighted_mean": [1, None, 2, 4], "sum": [1, 1, 1, 1], "none": [None] * 4}
        sums = [LOSSES[0], 0.0, LOSSES[1], LOSSES[3]]
        for part, total, divisor in zip(result.batches, sums, means[reduction], strict=True):
            assert part.loss == (None if divisor is None else pytest.approx(total / divisor, rel=1e-12))

    def test_the_mean_of_a_request_is_not_the_mean_of_its_batches(self) -> None:
        result = compute([batch(LOGITS[:1], [0]), batch(LOGITS[1:2] * 3, [1, 1, 1])])
        first, second = (part.loss for part in result.batches)
        assert first is not None
        assert second is not None
        assert result.loss == pytest.approx((first + 3 * second) / 4, rel=1e-12)

    @at_most(40)
    @given(batches=softmax_batches(), reduction=st.sampled_from(REDUCTIONS), gamma=st.sampled_from([0, 2]))
    def test_contributions_add_up_to_the_loss(self, batches: list[PlainBatch], reduction: str, gamma: float) -> None:
        parts = [of_tensors(torch.from_numpy(part.logits).double(), torch.from_numpy(part.targets)) for part in batches]
        result = compute(parts, {"reduction": reduction, "gamma": gamma})
        for part in result.batches:
            total = math.fsum(part.per_example["contribution"])
            expected = part.loss_sum if reduction == "none" else part.loss or 0.0
            assert total == pytest.approx(expected, rel=1e-12, abs=1e-300)
            assert math.fsum(part.per_example["loss"]) == pytest.approx(part.loss_sum, rel=1e-12, abs=1e-300)

    def test_the_device_and_the_configuration_are_named(self) -> None:
        result = compute([batch(LOGITS, TARGETS)], {"gamma": 0.5})
        assert result.device == "cpu"
        assert result.config_id == LossConfig(gamma=0.5).config_id

    def test_only_the_requested_outputs_in_their_order(self) -> None:
        result = compute([batch(LOGITS, TARGETS)], outputs=["p_t", "loss"])
        assert list(result.batches[0].per_example) == ["p_t", "loss"]
        assert list(compute([batch(LOGITS, TARGETS)], outputs=[]).batches[0].per_example) == []

    def test_a_loss_that_float32_cannot_hold(self) -> None:
        logits = tensor([[3e38, -3e38], [1, 2]], torch.float32)
        result = compute([of_tensors(logits, tensor([1, 0]))], {"reduction": "sum"}, outputs=["loss", "log_odds"])
        assert result.loss == pytest.approx(6e38)
        assert column(result, "loss")[0] == INF


class TestRowsThatDoNotCount:
    @pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
    def test_all_rows_ignored(self, reduction: str) -> None:
        result = compute([batch(LOGITS, [-100] * 4)], {"reduction": reduction})
        assert (result.loss, result.batches[0].loss) == (None, None)
        assert (result.num_examples, result.num_ignored) == (4, 4)
        assert column(result, "contribution") == [0, 0, 0, 0]

    def test_weights_of_zero(self) -> None:
        result = compute([batch(LOGITS, [0, 0, 0, 0])], {"alpha": [0, 1, 1], "reduction": "weighted_mean"}, top_k=2)
        assert result.loss is None
        assert result.batches[0].alpha_sum == 0
        assert column(result, "contribution") == [0, 0, 0, 0]
        assert [hard.index for hard in result.hardest] == [0, 1]
        mean = compute([batch(LOGITS, [0, 0, 0, 0])], {"alpha": [0, 1, 1]})
        assert mean.loss == 0


class TestExcluded:
    BAD = batch([*LOGITS, [NAN, 0, 0], [0, INF, 0], LOGITS[0], [0, -INF, 0]], [*TARGETS, 0, 0, 7, 1], list("abcdefgh"))

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_a_bad_row_is_in_no_sum(self, reduction: str) -> None:
        config = {"alpha": ALPHA, "reduction": reduction}
        result = compute([self.BAD], config, on_invalid="exclude", outputs=list(OUTPUTS), top_k=100)
        clean = compute([batch(LOGITS, TARGETS, list("abcd"))], config, outputs=list(OUTPUTS), top_k=100)
        assert result.loss == clean.loss
        part, other = result.batches[0], clean.batches[0]
        assert (part.loss, part.loss_sum, part.alpha_sum) == (other.loss, other.loss_sum, other.alpha_sum)
        assert (result.num_examples, result.num_ignored, result.num_excluded) == (8, 1, 4)
        assert (part.num_examples, part.num_ignored, part.num_excluded) == (8, 1, 4)
        assert result.hardest == clean.hardest
        for name in OUTPUTS:
            assert np.array_equal(part.per_example[name][:4], other.per_example[name], equal_nan=True)
            values = part.per_example[name][4:].tolist()
            if name in ("contribution", "prediction"):
                assert values == [{"contribution": 0, "prediction": -1}[name]] * 4
            else:
                assert all(math.isnan(value) for value in values), name

    def test_each_is_listed_with_its_reason(self) -> None:
        result = compute([batch(LOGITS, TARGETS), self.BAD], on_invalid="exclude")
        assert [(row.batch, row.index, row.id, row.code) for row in result.excluded] == [
            (1, 4, "e", "invalid_logit"),
            (1, 5, "f", "invalid_logit"),
            (1, 6, "g", "invalid_target"),
            (1, 7, "h", "invalid_logit"),
        ]
        assert [row.msg for row in result.excluded] == [
            "batch 1, row 4, column 0: logit NaN",
            "batch 1, row 5, column 1: logit +inf",
            "batch 1, row 6: target 7 is outside [0, 3) and is not ignore_index (-100)",
            "batch 1, row 7, column 1: logit -inf on the target: its loss is infinite",
        ]
        assert [part.num_excluded for part in result.batches] == [0, 4]

    def test_without_ids_the_id_is_none(self) -> None:
        result = compute([batch([[NAN, 0]], [0])], on_invalid="exclude")
        assert [row.id for row in result.excluded] == [None]
        assert result.loss is None

    def test_the_first_thousand_are_named_and_all_are_counted(self) -> None:
        rows = EXCLUDED_LISTED - 400
        bad = of_tensors(torch.full((rows, 2), NAN), torch.zeros(rows, dtype=torch.int64))
        result = compute([bad, batch(LOGITS[:1], [0]), bad, bad], on_invalid="exclude", limits=Limits(10_000, 10_000))
        assert result.num_excluded == 3 * rows
        assert [part.num_excluded for part in result.batches] == [rows, 0, rows, rows]
        named = [(row.batch, row.index) for row in result.excluded]
        assert named == [(0, row) for row in range(rows)] + [(2, row) for row in range(400)]
        assert len(named) == 1000

    @pytest.mark.parametrize(
        "wrong",
        [
            batch(LOGITS, [0, 1, 2]),
            batch([[1.0]], [0]),
            batch(LOGITS, TARGETS, ["a"]),
            batch(LOGITS, TARGETS, ["a", "b", "c", "a"]),
            batch(LOGITS, tensor([0.0, 1.0, 2.0, 0.0])),
        ],
    )
    def test_other_errors_are_still_errors(self, wrong: Batch) -> None:
        assert refused([wrong], on_invalid="exclude").status == 422
        assert refused([batch([[NAN, 0]], [0]), wrong], on_invalid="exclude").status == 422

    def test_by_default_nothing_is_excluded(self) -> None:
        assert compute([batch(LOGITS, TARGETS)]).excluded == ()
        assert isinstance(refused([self.BAD]), InvalidLogitError)

    def test_labels(self) -> None:
        logits = [[1.0, 2.0], [NAN, 0.0], [0.0, 0.0], [0.0, -INF]]
        targets = [[0.0, 1.0], [1.0, 1.0], [0.5, 1.5], [0.0, 1.0]]
        result = compute(
            [batch(logits, targets)], {"mode": "sigmoid"}, on_invalid="exclude", outputs=["loss", "prediction"]
        )
        clean = compute([batch(logits[:1], targets[:1])], {"mode": "sigmoid"})
        assert result.loss == clean.loss
        assert [row.msg for row in result.excluded] == [
            "batch 0, row 1, column 0: logit NaN",
            "batch 0, row 2, column 1: target 1.5 is outside [0, 1] and is not ignore_index (-100)",
            "batch 0, row 3, column 1: logit -inf on a positive label: its loss is infinite",
        ]
        assert column(result, "prediction") == [[1, 1], [-1, -1], [-1, -1], [-1, -1]]


class TestHardest:
    def test_the_largest_first_over_all_batches(self) -> None:
        rng = np.random.default_rng(3)
        parts, names = [], iter(range(1000))
        for size in (5, 0, 12, 1, 30):
            logits, targets = rng.normal(size=(size, 4)) * 3, rng.integers(0, 4, size)
            ids = [f"id-{next(names)}" for _ in range(size)]
            parts.append(of_tensors(torch.from_numpy(logits), torch.from_numpy(targets), ids))
        full = compute(parts, {"reduction": "weighted_mean", "alpha": [1, 2, 3, 4]}, top_k=100)
        losses = [
            (loss, number, index)
            for number, part in enumerate(full.batches)
            for index, loss in enumerate(part.per_example["loss"].tolist())
        ]
        expected = sorted(losses, key=lambda row: -row[0])
        assert [(hard.loss, hard.batch, hard.index) for hard in full.hardest] == expected
        for hard in full.hardest:
            ids = parts[hard.batch].ids
            assert ids is not None
            assert hard.id == ids[hard.index]
            assert hard.contribution == full.batches[hard.batch].per_example["contribution"][hard.index]
        for top_k in (0, 1, 2, 17, 47, 48, 49):
            some = compute(parts, {"reduction": "weighted_mean", "alpha": [1, 2, 3, 4]}, top_k=top_k)
            assert some.hardest == full.hardest[:top_k]

    def test_equal_losses_are_ordered_by_position(self) -> None:
        parts = [batch([[0.0, 0.0]] * 5, [0, 1, 0, 1, 0]), batch([[1.0, 1.0]] * 3 + [[0.0, 9.0]], [0, 0, 1, 0])]
        result = compute(parts, top_k=7)
        assert [(hard.batch, hard.index) for hard in result.hardest] == [
            (1, 3),
            *((0, row) for row in range(5)),
            (1, 0),
        ]

    def test_losses_that_underflow_still_have_an_order(self) -> None:
        gaps = [3000.0, 900.0, 2000.0, 1000.0, 5000.0]
        parts = [batch([[gap, 0.0] for gap in gaps[:3]], [0, 0, 0]), batch([[gap, 0.0] for gap in gaps[3:]], [0, 0])]
        result = compute(parts, top_k=4)
        assert [hard.loss for hard in result.hardest] == [0, 0, 0, 0]
        assert [(hard.batch, hard.index) for hard in result.hardest] == [(0, 1), (1, 0), (0, 2), (0, 0)]

    def test_the_hardest_need_no_outputs(self) -> None:
        result = compute([batch(LOGITS, TARGETS)], outputs=["p_t"], top_k=1)
        assert result.hardest[0].loss == pytest.approx(max(focal(LOGITS[1], 1, 2), focal(LOGITS[3], 2, 2)))

    def test_only_rows_that_count(self) -> None:
        result = compute([batch([*LOGITS, [NAN] * 3], [*TARGETS, 0])], on_invalid="exclude", top_k=50)
        assert sorted(hard.index for hard in result.hardest) == [0, 1, 3]
        assert compute([batch(LOGITS, [-100] * 4)], top_k=3).hardest == ()

    def test_ids_of_some_batches_only(self) -> None:
        result = compute([batch([[0.0, 1.0]], [0]), batch([[0.0, 2.0]], [0], [0])], top_k=5)
        assert [hard.id for hard in result.hardest] == [0, None]

    @at_most(40)
    @given(batches=softmax_batches(), top_k=st.integers(0, 20))
    def test_the_hardest_are_the_examples_of_largest_loss(self, batches: list[PlainBatch], top_k: int) -> None:
        parts = [of_tensors(torch.from_numpy(part.logits).double(), torch.from_numpy(part.targets)) for part in batches]
        result = compute(parts, top_k=top_k)
        positions = [(hard.batch, hard.index) for hard in result.hardest]
        counted = [
            (number, row)
            for number, part in enumerate(batches)
            for row, target in enumerate(part.targets)
            if target != -100
        ]
        assert len(positions) == len(set(positions)) == min(top_k, len(counted))
        assert set(positions) <= set(counted)
        losses = [float(hard.loss) for hard in result.hardest]
        assert losses == sorted(losses, reverse=True)
        others = [result.batches[number].per_example["loss"][row] for number, row in set(counted) - set(positions)]
        assert not losses or max(others, default=0.0) <= losses[-1]


class TestIds:
    @pytest.mark.parametrize(
        ("ids", "loc", "first"),
        [
            ([["a", "b"], ["c", "a"]], ["batches", 1, "ids", 1], "batch 0, row 0"),
            ([["a", "a"], ["c", "d"]], ["batches", 0, "ids", 1], "batch 0, row 0"),
            ([[1, 2], [3, 2]], ["batches", 1, "ids", 1], "batch 0, row 1"),
            ([None, [5, 5]], ["batches", 1, "ids", 1], "batch 1, row 0"),
        ],
    )
    def test_an_id_that_occurs_twice(self, ids: list[Any], loc: list[str | int], first: str) -> None:
        error = refused([batch([[0, 1]] * 2, [0, 1], names) for names in ids])
        assert isinstance(error, InvalidIdsError)
        assert locations(error) == [loc]
        assert first in error.detail
        assert f"batch {loc[1]}, row {loc[3]}" in error.detail

    def test_a_string_and_an_integer_are_different_ids(self) -> None:
        assert compute([batch([[0, 1]] * 2, [0, 1], [1, "1"])]).num_examples == 2

    @pytest.mark.parametrize("ids", [[], ["a"], ["a", "b", "c"]])
    def test_there_is_an_id_for_each_row(self, ids: list[str | int]) -> None:
        error = refused([batch([[0, 1]], [0]), batch([[0, 1]] * 2, [0, 1], ids)])
        assert isinstance(error, ShapeError)
        assert locations(error) == [["batches", 1, "ids"]]
        assert f"{len(ids)} ids for 2 rows" in error.detail


class TestLimits:
    def test_elements_of_one_batch(self) -> None:
        assert compute([batch(LOGITS, TARGETS)] * 3, limits=Limits(12, 1000)).num_examples == 12
        error = refused([batch(LOGITS[:1], [0]), batch(LOGITS, TARGETS)], limits=Limits(11, 1000))
        assert isinstance(error, TooManyElementsError)
        assert error.status == 413
        assert error.detail == "batch 1 has 12 logits, the limit is 11 (max_elements)"

    def test_rows_of_all_batches(self) -> None:
        assert compute([batch(LOGITS, TARGETS)] * 3, limits=Limits(1000, 12)).num_examples == 12
        error = refused([batch(LOGITS, TARGETS)] * 3, limits=Limits(1000, 11))
        assert isinstance(error, TooManyExamplesError)
        assert error.status == 413
        assert error.detail == "the request has 12 rows, the limit is 11 (max_examples)"

    def test_rows_without_a_column_count_too(self) -> None:
        logits = torch.empty(2**40, 0)
        error = refused([of_tensors(logits, torch.empty(2**40, 0, dtype=torch.int64))])
        assert isinstance(error, TooManyExamplesError)


class TestRefusals:
    """Contract section 2: the message names batch, row and value."""

    @pytest.mark.parametrize(
        ("logits", "targets", "config", "loc", "detail"),
        [
            ([[0, 0], [0, NAN]], [0, 0], {}, ["logits", 1, 1], "batch 1, row 1, column 1: logit NaN"),
            ([[0, 0], [INF, 0]], [0, 0], {}, ["logits", 1, 0], "batch 1, row 1, column 0: logit +inf"),
            ([[0, 0], [0, INF]], [0, 0], {}, ["logits", 1, 1], "batch 1, row 1, column 1: logit +inf"),
            (
                [[0, 0], [-INF, 0]],
                [0, 0],
                {},
                ["logits", 1, 0],
                "batch 1, row 1, column 0: logit -inf on the target: its loss is infinite",
            ),
            (
                [[0, 0, 0], [0, 0, -INF]],
                [0, 0],
                {"label_smoothing": 0.1},
                ["logits", 1, 2],
                "batch 1, row 1, column 2: logit -inf with label_smoothing: its loss is infinite",
            ),
            (
                [[0, 0], [0, 0]],
                [1, 2],
                {},
                ["targets", 1],
                "batch 1, row 1: target 2 is outside [0, 2) and is not ignore_index (-100)",
            ),
            (
                [[0, 0], [0, 0]],
                [1, -1],
                {"ignore_index": 7},
                ["targets", 1],
                "batch 1, row 1: target -1 is outside [0, 2) and is not ignore_index (7)",
            ),
            (
                [[0, 0]],
                [2**63 - 1],
                {"ignore_index": None},
                ["targets", 0],
                "batch 1, row 0: target 9223372036854775807 is outside [0, 2)",
            ),
            (
                [[0, 0], [0, 0]],
                [0, 0.5],
                {},
                ["targets", 1],
                "batch 1, row 1: softmax targets are integer class indices, got 0.5",
            ),
            (
                [[0, 0], [0, 0]],
                [1.0, 0.0],
                {},
                ["targets", 0],
                "batch 1, row 0: softmax targets are integer class indices, got 1.0",
            ),
            (
                [[0, 0], [0, 0]],
                [0, 2.0**63],
                {},
                ["targets", 1],
                "batch 1, row 1: softmax targets are integer class indices, got 9.223372036854776e+18",
            ),
            (
                [[0, 0], [0, 0]],
                [0, NAN],
                {},
                ["targets", 1],
                "batch 1, row 1: softmax targets are integer class indices, got NaN",
            ),
            (
                [[0, 0], [0, 0]],
                [0, -INF],
                {},
                ["targets", 1],
                "batch 1, row 1: softmax targets are integer class indices, got -inf",
            ),
            (
                [[0, 0], [0, 0]],
                [[0, 1], [1, -0.5]],
                {"mode": "sigmoid"},
                ["targets", 1, 1],
                "batch 1, row 1, column 1: target -0.5 is outside [0, 1] and is not ignore_index (-100)",
            ),
            (
                [[0, 0], [0, 0]],
                [[0, 1], [NAN, 1]],
                {"mode": "sigmoid", "ignore_index": None},
                ["targets", 1, 0],
                "batch 1, row 1, column 0: target NaN is outside [0, 1]",
            ),
            (
                [[0, 0], [0, INF]],
                [[0, 1], [1, 1]],
                {"mode": "sigmoid"},
                ["logits", 1, 1],
                "batch 1, row 1, column 1: logit +inf",
            ),
        ],
    )
    def test_values(self, logits: Any, targets: Any, config: Any, loc: list[Any], detail: str) -> None:
        good = batch(torch.zeros(1, 2).tolist(), [[0, 1]] if config.get("mode") == "sigmoid" else [0])
        error = refused([good, batch(logits, targets)], config)
        assert isinstance(error, InvalidTargetError if loc[0] == "targets" else InvalidLogitError)
        assert error.detail == detail
        assert locations(error) == [["batches", 1, *loc]]

    def test_every_bad_row_is_named_up_to_a_bound(self) -> None:
        logits = torch.zeros(50, 2, dtype=torch.float64)
        logits[10:, 1] = NAN
        error = refused([of_tensors(logits, torch.zeros(50, dtype=torch.int64))])
        assert locations(error) == [["batches", 0, "logits", row, 1] for row in range(10, 10 + ERRORS_NAMED)]
        assert error.detail == "batch 0, row 10, column 1: logit NaN (and 39 more rows)"

    def test_rows_that_are_bad_in_two_ways(self) -> None:
        error = refused([batch([[NAN, 0], [0, 0]], [0, 5])])
        assert isinstance(error, InvalidLogitError)
        assert locations(error) == [["batches", 0, "logits", 0, 0], ["batches", 0, "targets", 1]]

    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    @pytest.mark.parametrize(("rows", "targets"), [(2, 3), (3, 2), (0, 1), (1, 0)])
    def test_lengths_that_differ(self, mode: str, rows: int, targets: int) -> None:
        error = refused([of_tensors(torch.zeros(rows, 2), torch.zeros(targets, dtype=torch.int64))], {"mode": mode})
        assert isinstance(error, ShapeError)
        assert locations(error) == [["batches", 0, "targets"]]
        assert f"{targets} targets for {rows} rows" in error.detail

    @pytest.mark.parametrize(
        ("logits", "targets", "config", "part", "text"),
        [
            ((2,), (2,), {}, "logits", "[2]"),
            ((), (), {}, "logits", "[]"),
            ((2, 3, 1), (2,), {}, "logits", "[2, 3, 1]"),
            ((2, 1), (2,), {}, "logits", "have 1"),
            ((2, 0), (2,), {}, "logits", "have 0"),
            ((2, 3), (2, 1), {}, "targets", "[2, 1]"),
            ((2, 3), (2, 3), {}, "targets", "[2, 3]"),
            ((2, 3), (), {}, "targets", "[]"),
            ((2, 3), (2,), {"alpha": [1, 2]}, "logits", "2 weights, the logits 3 classes"),
            ((2, 3), (2,), {"alpha": 0.5}, "logits", "2 weights, the logits 3 classes"),
            ((2, 2), (2,), {"alpha": [1, 2, 3]}, "logits", "3 weights, the logits 2 classes"),
            ((2, 2), (2,), {"alpha": {"class_counts": [1, 2, 3]}}, "logits", "3 weights, the logits 2 classes"),
            ((0, 3), (0,), {"alpha": [1, 2]}, "logits", "2 weights, the logits 3 classes"),
            ((2, 3), (2,), {"mode": "sigmoid"}, "targets", "[2, 3] and targets [2]"),
            ((2, 3), (2, 1), {"mode": "sigmoid"}, "targets", "[2, 3] and targets [2, 1]"),
            ((2,), (2, 2), {"mode": "sigmoid"}, "targets", "[2, 1] and targets [2, 2]"),
            ((2, 0), (2, 0), {"mode": "sigmoid"}, "logits", "none"),
            ((), (), {"mode": "sigmoid"}, "logits", "[]"),
            ((2, 1, 1), (2, 1, 1), {"mode": "sigmoid"}, "logits", "[2, 1, 1]"),
            ((2, 1), (2, 1, 1), {"mode": "sigmoid"}, "targets", "[2, 1, 1]"),
            ((2, 3), (2, 3), {"mode": "sigmoid", "alpha": [0.1, 0.2]}, "logits", "2 values, the logits 3 labels"),
            ((2,), (2,), {"mode": "sigmoid", "alpha": [0.1, 0.2]}, "logits", "2 values, the logits 1 labels"),
        ],
    )
    def test_shapes(self, logits: Any, targets: Any, config: Any, part: str, text: str) -> None:
        error = refused([of_tensors(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))], config)
        assert isinstance(error, ShapeError)
        assert locations(error) == [["batches", 0, part]]
        assert text in error.detail

    def test_the_last_batch_is_checked_before_the_first_is_computed(self) -> None:
        error = refused([batch([[NAN, 0]], [0]), batch([[0.0]], [0])])
        assert isinstance(error, ShapeError)


class TestEmpty:
    @pytest.mark.parametrize(
        ("reduction", "loss"), [("sum", 0.0), ("mean", None), ("weighted_mean", None), ("none", None)]
    )
    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    @pytest.mark.parametrize("shape", [(0,), (0, 2)])
    def test_an_empty_batch(self, reduction: str, loss: float | None, mode: str, shape: tuple[int, ...]) -> None:
        config = {"mode": mode, "reduction": reduction}
        for dtype in (torch.int64, torch.float64):
            empty = of_tensors(torch.zeros(shape, dtype=torch.float64), torch.zeros(0, dtype=dtype), [])
            result = compute([empty], config, outputs=list(OUTPUTS), top_k=3)
            assert (result.loss, result.batches[0].loss) == (loss, loss)
            assert (result.num_examples, result.num_ignored, result.num_excluded) == (0, 0, 0)
            assert result.hardest == ()
            assert {name: len(values) for name, values in result.batches[0].per_example.items()} == dict.fromkeys(
                OUTPUTS, 0
            )

    @pytest.mark.parametrize("more", [{}, {"mode": "sigmoid"}, {"label_smoothing": 0.1}])
    def test_the_empty_list_of_json_fits_every_alpha(self, more: dict[str, Any]) -> None:
        empty = batch([], torch.zeros(0, dtype=torch.int64))
        result = compute([empty], {"alpha": [0.1, 0.2, 0.3], "reduction": "sum"} | more, outputs=list(OUTPUTS))
        assert result.loss == 0
        assert result.batches[0].num_examples == 0

    @pytest.mark.parametrize(
        ("reduction", "loss"), [("sum", 0.0), ("mean", None), ("weighted_mean", None), ("none", None)]
    )
    def test_no_batches(self, reduction: str, loss: float | None) -> None:
        result = compute([], {"reduction": reduction}, top_k=5)
        assert (result.loss, result.num_examples, result.batches, result.hardest) == (loss, 0, (), ())


class TestSigmoid:
    LOGITS = (1.5, -0.5, 0.0, 3.0)
    TARGETS = (1, 0, 1, 0)
    LOSSES = tuple(focal([0, x], y, 2, 0.25 if y else 0.75) for x, y in zip(LOGITS, TARGETS, strict=True))

    @pytest.mark.parametrize("logits_shape", [(4,), (4, 1)])
    @pytest.mark.parametrize("targets_shape", [(4,), (4, 1)])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32, torch.float64, torch.bool])
    def test_one_label(self, logits_shape: tuple[int, ...], targets_shape: tuple[int, ...], dtype: torch.dtype) -> None:
        part = of_tensors(
            tensor(self.LOGITS, torch.float64).reshape(logits_shape),
            tensor(self.TARGETS).to(dtype).reshape(targets_shape),
        )
        result = compute([part], {"mode": "sigmoid", "alpha": 0.25}, outputs=["loss", "prediction"])
        assert column(result, "loss") == pytest.approx(self.LOSSES, rel=1e-12)
        assert result.loss == pytest.approx(sum(self.LOSSES) / 4, rel=1e-12)
        assert column(result, "prediction") == [1, 0, 0, 1]

    def test_the_loss_of_an_example_is_the_mean_over_its_labels(self) -> None:
        part = batch(np.reshape(self.LOGITS, (2, 2)).tolist(), np.reshape(self.TARGETS, (2, 2)).tolist())
        result = compute(
            [part], {"mode": "sigmoid", "alpha": 0.25}, outputs=["loss", "contribution", "prediction"], top_k=1
        )
        losses = np.reshape(self.LOSSES, (2, 2)).mean(1)
        assert column(result, "loss") == pytest.approx(losses.tolist(), rel=1e-12)
        assert result.loss == pytest.approx(float(losses.mean()), rel=1e-12)
        assert column(result, "contribution") == pytest.approx((losses / 2).tolist(), rel=1e-12)
        assert column(result, "prediction") == [[1, 0], [0, 1]]
        assert result.hardest[0].index == int(losses.argmax())
        assert result.num_examples == 2
