"""Totals of many batches: sums, hardest examples and excluded rows."""

from __future__ import annotations

import numpy as np
import pytest

from service.schema.config import Reduction
from service.schema.result import EXCLUDED_LISTED, BatchResult, Excluded, HardExample, LossResult, Totals
from service.schema.structure import DivisorName


def batch(loss_sum: float, num_examples: int = 4, *, alpha_sum: float = 2.0, num_excluded: int = 0) -> BatchResult:
    return BatchResult(
        loss=None,
        loss_sum=loss_sum,
        alpha_sum=alpha_sum,
        num_examples=num_examples,
        num_ignored=1,
        num_excluded=num_excluded,
        per_example={"loss": np.full(num_examples, loss_sum)},
        num_elements=10,
    )


def hard(number: int, index: int, loss: float, log_loss: float | None = None) -> HardExample:
    return HardExample(number, index, None, loss, loss, log_loss)


def result_of(*batches: BatchResult, hardest: list[HardExample], excluded: list[Excluded]) -> LossResult:
    return LossResult("fl_1", "cpu", None, 0, 0, 0, batches, tuple(hardest), tuple(excluded))


class TestTotals:
    @pytest.mark.parametrize(
        ("reduction", "loss"), [("mean", 6 / 5), ("sum", 6.0), ("weighted_mean", 1.5), ("none", None)]
    )
    def test_loss_of_all_batches(self, reduction: Reduction, loss: float | None) -> None:
        totals = Totals(reduction, 0)
        totals.add(batch(2.0))
        totals.add(batch(4.0, num_excluded=1))
        assert (totals.num_batches, totals.num_examples, totals.num_ignored, totals.num_excluded) == (2, 8, 2, 1)
        assert totals.loss == (None if loss is None else pytest.approx(loss))

    def test_mean_over_no_example_is_none(self) -> None:
        assert Totals("mean", 0).loss is None
        assert Totals("sum", 0).loss == 0

    @pytest.mark.parametrize(
        ("divisor", "loss"), [("examples", 6 / 5), ("positives", 6 / 5), ("elements", 6 / 20), (2.5, 6 / 2.5)]
    )
    def test_the_divisor_of_a_mean(self, divisor: DivisorName | float, loss: float) -> None:
        totals = Totals("mean", 0, divisor=divisor)
        totals.add_result(result_of(batch(2.0), batch(4.0, num_excluded=1), hardest=[], excluded=[]))
        assert totals.loss == pytest.approx(loss)
        assert totals.result().num_elements == 20
        assert Totals("sum", 0, divisor=divisor).denominator == 1
        assert Totals("weighted_mean", 0, divisor="elements", alpha_sum=7.0, num_elements=3).denominator == 7

    def test_hardest_are_ordered_by_log_loss_if_known(self) -> None:
        totals = Totals("mean", 2)
        totals.add(batch(0.0), [hard(0, 0, 0.0, -200.0), hard(0, 1, 0.0, -300.0)])
        totals.add(batch(0.0), [hard(1, 0, 0.0, -100.0)])
        assert [(example.batch, example.index) for example in totals.hardest] == [(1, 0), (0, 0)]

    def test_hardest_of_equal_loss_keep_their_order(self) -> None:
        totals = Totals("mean", 3)
        for number in range(3):
            totals.add(batch(1.0), [hard(number, 5, 1.0), hard(number, 6, 1.0)])
        assert [(example.batch, example.index) for example in totals.hardest] == [(0, 5), (0, 6), (1, 5)]

    def test_lists_the_first_excluded_rows_only(self) -> None:
        totals = Totals("mean", 0)
        rows = [Excluded(0, index, None, "invalid_logit", "") for index in range(EXCLUDED_LISTED - 1)]
        totals.add(batch(1.0, num_excluded=len(rows)), excluded=rows)
        totals.add(batch(1.0), excluded=[Excluded(1, index, None, "invalid_logit", "") for index in range(3)])
        assert len(totals.excluded) == EXCLUDED_LISTED
        assert totals.excluded[-1] == Excluded(1, 0, None, "invalid_logit", "")

    def test_batches_of_a_stream_are_numbered_from_its_start(self) -> None:
        totals = Totals("mean", 2)
        row = Excluded(1, 3, None, "invalid_logit", "batch 1, row 3: logit NaN")
        totals.add_result(result_of(batch(1.0), batch(1.0), hardest=[hard(1, 2, 0.5)], excluded=[row]))
        totals.add_result(result_of(batch(1.0), batch(1.0), hardest=[hard(1, 2, 0.7)], excluded=[row]))
        result = totals.result()
        assert (result.config_id, result.device, result.num_examples) == ("fl_1", "cpu", 16)
        assert [(example.batch, example.index) for example in result.hardest] == [(3, 2), (1, 2)]
        assert [(example.batch, example.index, example.msg) for example in result.excluded] == [
            (1, 3, "batch 1, row 3: logit NaN"),
            (3, 3, "batch 3, row 3: logit NaN"),
        ]


def test_columns_of_all_batches_are_joined_in_their_order() -> None:
    result = result_of(batch(1.0, 2), batch(3.0, 1), hardest=[], excluded=[])
    assert result.per_example["loss"].tolist() == [1.0, 1.0, 3.0]
    single = batch(1.0)
    assert result_of(single, hardest=[], excluded=[]).per_example["loss"] is single.per_example["loss"]
