"""Structured examples: the scores of examples and batches from those of their elements, in every layout."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compute import scoring
from service.schema.request import ELEMENT_OUTPUTS, OUTPUTS, Batch
from service.schema.result import BatchResult, LossResult
from tests.compute.sample_requests import DEVICE, REDUCTIONS, compute
from tests.compute.structured import Structured, divisors, losses_within, structured_batches

DIVISORS = ("elements", "examples", "positives", 2.5)
WITHIN = ("mean", "sum", "max", {"top_share": 0.4})
# An example of another layout than `rows` has no prediction.
OF_EXAMPLES = [name for name in OUTPUTS if name != "prediction"]


def evaluated(case: Structured, *batches: Batch, reduction: str = "mean", **options: Any) -> LossResult:
    """The result of the batch of a case, or of other batches."""
    if reduction == "weighted_mean" and isinstance(options.get("divisor"), float):
        options["divisor"] = "elements"
    return compute(batches or [case.batch], case.config | {"reduction": reduction}, layout=case.layout, **options)


def by_example(result: BatchResult, name: str, case: Structured) -> list[np.ndarray[Any, Any]]:
    """An output of the elements, one array for each example."""
    values = result.per_element[name].reshape(-1)
    return np.split(values, np.cumsum([len(example) for example in case.examples])[:-1]) if case.examples else []


class TestDefinitions:
    @given(case=structured_batches(), within=st.sampled_from(WITHIN))
    def test_the_scores_of_an_example(self, case: Structured, within: Any) -> None:
        outputs = ["loss", "num_valid", "max_loss", "p_t", "cross_entropy", "label_quality"]
        result = evaluated(case, outputs=outputs, within=within, top_k=100)
        columns = result.batches[0].per_example
        hardest = {row.index: row.log_loss for row in result.hardest}
        for number, values in enumerate(case.counted):
            got = {name: column[number] for name, column in columns.items()}
            assert got.pop("num_valid") == len(values)
            if not len(values):
                assert got.pop("loss") == 0
                assert all(map(math.isnan, got.values()))
                assert number not in hardest
                continue
            p_t = values[:, 2]
            weights = np.exp((1 - p_t) / 0.1)
            expected = {
                "loss": losses_within(values, within),
                "max_loss": values[:, 0].max(),
                "p_t": p_t.min(),
                "cross_entropy": -np.log(p_t).mean(),
                "label_quality": (p_t * weights).sum() / weights.sum(),
            }
            assert got == pytest.approx(expected, rel=1e-6)
            assert hardest[number] == pytest.approx(math.log(expected["loss"]), rel=1e-6, abs=1e-6)
        assert result.num_elements == sum(map(len, case.counted))
        assert result.num_ignored == sum(not len(values) for values in case.counted)

    @given(
        case=structured_batches(),
        reduction=st.sampled_from(REDUCTIONS),
        divisor=st.sampled_from(DIVISORS),
        within=st.sampled_from(WITHIN),
    )
    def test_contributions_add_up_on_three_levels(
        self, case: Structured, reduction: str, divisor: Any, within: Any
    ) -> None:
        options = {"outputs": ["contribution"], "elements": ["contribution", "loss"], "within": within}
        result = evaluated(case, reduction=reduction, divisor=divisor, **options)
        (batch,) = result.batches
        if reduction == "weighted_mean" and isinstance(divisor, float):
            divisor = "elements"
        own, total = divisors(case.counted, reduction, divisor)
        sums = [math.fsum(values[:, 0]) / by for values, by in zip(case.counted, own, strict=True)]
        examples = batch.per_example["contribution"].tolist()
        assert examples == pytest.approx([value / total for value in sums], rel=1e-6, abs=1e-300)
        for values, losses, mine, by in zip(
            by_example(batch, "contribution", case), by_example(batch, "loss", case), examples, own, strict=True
        ):
            assert math.fsum(values) == pytest.approx(mine, rel=1e-9, abs=1e-300)
            assert values.tolist() == pytest.approx((losses / (by * total)).tolist(), rel=1e-9)
        assert batch.loss_sum == pytest.approx(math.fsum(sums), rel=1e-6)
        if reduction == "none" or (result.loss is None and not batch.num_elements):
            assert result.loss is None
        else:
            assert result.loss == pytest.approx(math.fsum(examples), rel=1e-9, abs=1e-300)
            assert batch.loss == result.loss


class TestSplits:
    @given(case=structured_batches(), divisor=st.sampled_from(DIVISORS), reduction=st.sampled_from(REDUCTIONS))
    def test_batches_and_the_order_of_examples_change_no_result(
        self, case: Structured, divisor: Any, reduction: str
    ) -> None:
        """An example for a batch, in reverse order, gives the same scores and totals."""
        options = {"outputs": OF_EXAMPLES, "elements": list(ELEMENT_OUTPUTS), "reduction": reduction}
        whole = evaluated(case, divisor=divisor, **options)
        count = len(case.examples)
        parts = evaluated(
            case, *(_example(case, number) for number in reversed(range(count))), divisor=divisor, **options
        )
        if not count:
            return
        assert parts.loss == (None if whole.loss is None else pytest.approx(whole.loss, rel=1e-12, abs=1e-300))
        assert (parts.num_elements, parts.num_ignored) == (whole.num_elements, whole.num_ignored)
        for name in OF_EXAMPLES:
            joined = np.concatenate([batch.per_example[name] for batch in reversed(parts.batches)])
            if name != "contribution":
                np.testing.assert_allclose(joined, whole.batches[0].per_example[name], rtol=1e-12, err_msg=name)

    @given(case=structured_batches(), within=st.sampled_from(WITHIN))
    def test_the_computed_parts_and_a_pass_for_regions_change_no_result(self, case: Structured, within: Any) -> None:
        options = {
            "outputs": [*OF_EXAMPLES, "regions"],
            "elements": list(ELEMENT_OUTPUTS),
            "within": within,
            "top_k": 9,
        }
        for without_regions in (False, True):
            if without_regions:
                options["outputs"] = OF_EXAMPLES
            whole = evaluated(case, **options)
            for size in (1, 3):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setitem(scoring.PART_SCORES, "cpu", size * (scoring.MIN_SCORES + len(ELEMENT_OUTPUTS)))
                    patch.setattr(DEVICE, "chunk_elements", 2 * size)
                    patch.setattr(scoring, "may_be_too_many", Mock(return_value=size == 3))
                    parts = evaluated(case, **options)
                assert _columns(parts) == pytest.approx(_columns(whole), rel=1e-9, nan_ok=True)
                assert [hard.index for hard in parts.hardest] == [hard.index for hard in whole.hardest]


def _example(case: Structured, number: int) -> Batch:
    """A batch with one example of a case."""
    logits, targets, offsets = case.batch.logits, case.batch.targets, case.batch.offsets
    if offsets is None:
        return Batch(logits[number : number + 1], targets[number : number + 1])
    start, stop = offsets[number : number + 2]
    return Batch(logits[start:stop], targets[start:stop], offsets=np.array([0, stop - start]))


def _columns(result: LossResult) -> list[float]:
    """All numbers of the examples, elements and regions of a result."""
    (batch,) = result.batches
    columns = [*batch.per_example.values(), *batch.per_element.values()]
    columns += [] if batch.regions is None else vars(batch.regions).values()
    return [float(value) for column in columns for value in column.reshape(-1)]


def test_a_region_of_binary_masks_crosses_rows() -> None:
    """Three axes without an alpha for each label are one mask (N, H, W), with an axis of one label or without."""
    logits = np.full((1, 3, 4), -2.0)
    targets = np.zeros((1, 3, 4), np.int64)
    targets[0, :2, 1:3] = 1
    config = {"mode": "sigmoid"}
    statistics = Batch(np.empty(0), targets, statistics={"log_odds": np.where(targets, -2.0, 2.0)})
    for batch, alpha in (
        (Batch(logits, targets), None),
        (Batch(logits[:, np.newaxis], targets), None),
        (Batch(logits[:, np.newaxis], targets), [0.5]),
        (statistics, [0.5]),
    ):
        (result,) = compute([batch], config | {"alpha": alpha}, layout="dense", outputs=["regions"]).batches
        assert result.regions is not None
        assert (result.regions.start.tolist(), result.regions.stop.tolist()) == ([[0, 1]], [[2, 3]])
    (rows,) = compute(
        [Batch(logits, targets)], {**config, "alpha": [0.5] * 3}, layout="dense", outputs=["regions"]
    ).batches
    assert rows.regions is not None
    assert rows.regions.start.tolist() == [[0, 1], [1, 1]]
