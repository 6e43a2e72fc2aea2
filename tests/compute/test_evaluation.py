"""The results of requests: reductions, contributions, rows that do not count, and the hardest examples.

`tests/loss/properties` tests the scores of single rows, with `evaluate` as one of the implementations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.compute.evaluation import Limits
from service.errors import (
    InvalidLogitError,
)
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS, Batch
from service.schema.result import EXCLUDED_LISTED
from tests.compute.sample_requests import (
    INF,
    LOGITS,
    NAN,
    REDUCTIONS,
    TARGETS,
    batch,
    column,
    compute,
    focal,
    of_tensors,
    refused,
    tensor,
)
from tests.strategies import PlainBatch, at_most, softmax_batches

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
            if name in ("contribution", "num_valid", "prediction"):
                assert values == [{"prediction": -1}.get(name, 0)] * 4
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
            batch(LOGITS, tensor([[0], [1], [2], [0]])),
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
