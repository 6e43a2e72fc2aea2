"""Rows that do not count, missing labels, masked classes and targets of every integer dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from service.loss.row_state import RowState
from tests.loss.comparison import assert_near
from tests.loss.implementations import FURTHER, Columns, Implementation, every_implementation
from tests.loss.samples import GAMMAS, double, moderate_rows

NAN, INF = math.nan, math.inf
COUNTED, IGNORED, BAD_TARGET, BAD_LOGIT = RowState.COUNTED, RowState.IGNORED, RowState.BAD_TARGET, RowState.BAD_LOGIT


def assert_same(result: Columns, expected: Columns, rtol: float = 0, atol: float = 0) -> None:
    """Assert that every column is equal, by default to the last bit."""
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        assert_near(result[name], values, rtol=rtol, atol=atol, name=name)


def rows_of(columns: Columns, rows: list[int]) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


SOFTMAX_ROWS: list[tuple[list[float], int, RowState]] = [
    ([0.0, 1.0, 2.0], 2, COUNTED),
    ([0.0, -INF, 2.0], 2, COUNTED),
    ([0.0, 1.0, 2.0], -100, IGNORED),
    ([NAN, INF, -INF], -100, IGNORED),
    ([0.0, 1.0, 2.0], 3, BAD_TARGET),
    ([0.0, 1.0, 2.0], -1, BAD_TARGET),
    ([0.0, 1.0, 2.0], 2**40, BAD_TARGET),
    ([NAN, 1.0, 2.0], 3, BAD_TARGET),
    ([NAN, 1.0, 2.0], 0, BAD_LOGIT),
    ([NAN, 1.0, 2.0], 2, BAD_LOGIT),
    ([INF, 1.0, 2.0], 0, BAD_LOGIT),
    ([INF, 1.0, 2.0], 2, BAD_LOGIT),
    ([-INF, 1.0, 2.0], 0, BAD_LOGIT),
    ([-INF, -INF, -INF], 0, BAD_LOGIT),
    # Their difference overflows float64.
    ([1.7e308, -1.7e308, -1.7e308], 0, BAD_LOGIT),
    ([-1.7e308, 1.7e308, -1.7e308], 0, BAD_LOGIT),
]
SIGMOID_ROWS: list[tuple[list[float], list[float], RowState]] = [
    ([0.0, 1.0], [0, 1], COUNTED),
    ([0.0, 1.0], [0.25, 1], COUNTED),
    ([0.0, NAN], [1, -100], COUNTED),
    ([-INF, 1.0], [0, 1], COUNTED),
    ([NAN, INF], [-100, -100], IGNORED),
    ([0.0, 1.0], [2, 1], BAD_TARGET),
    ([0.0, 1.0], [1, -0.5], BAD_TARGET),
    ([0.0, 1.0], [1, NAN], BAD_TARGET),
    ([0.0, 1.0], [INF, 0], BAD_TARGET),
    ([0.0, NAN], [2, -100], BAD_TARGET),
    ([0.0, NAN], [2, 1], BAD_TARGET),
    ([0.0, NAN], [0, 1], BAD_LOGIT),
    ([INF, 0.0], [1, 1], BAD_LOGIT),
    ([INF, 0.0], [0, 1], BAD_LOGIT),
    ([-INF, 0.0], [1, 1], BAD_LOGIT),
    ([-INF, 0.0], [0.25, 1], BAD_LOGIT),
]


class TestState:
    """Each row is between two good rows, which it must not change."""

    @every_implementation()
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_softmax_rows(self, implementation: Implementation, smoothing: float) -> None:
        implementation.need("bad_rows")
        config: dict[str, Any] = {"alpha": [1, 2, 3], "label_smoothing": smoothing}
        good = implementation.score(double([[0.5, 1.0, -1.0]]), torch.tensor([1]), **config)
        for logits, target, state in SOFTMAX_ROWS:
            # The smoothed target contains every class.
            expected = BAD_LOGIT if smoothing and -INF in logits and state == COUNTED else state
            rows = double([[0.5, 1.0, -1.0], logits, [0.5, 1.0, -1.0]])
            result = implementation.score(rows, torch.tensor([1, target, 1]), **config)
            self.check(result, good, expected)

    @every_implementation()
    def test_sigmoid_rows(self, implementation: Implementation) -> None:
        implementation.need("bad_rows")
        config: dict[str, Any] = {"alpha": [0.25, 0.5], "mode": "sigmoid"}
        good = implementation.score(double([[0.5, 1.0]]), double([[0, 1]]), **config)
        for logits, labels, state in SIGMOID_ROWS:
            rows = double([[0.5, 1.0], logits, [0.5, 1.0]])
            result = implementation.score(rows, double([[0, 1], labels, [0, 1]]), **config)
            self.check(result, good, state)

    @staticmethod
    def check(result: Columns, good: Columns, state: RowState) -> None:
        assert result["state"].tolist() == [COUNTED, state, COUNTED]
        for place in (0, 2):
            assert_same(rows_of(result, [place]), good)
        row = {name: values[1] for name, values in result.items()}
        if state == COUNTED:
            assert row["loss"] >= 0
            assert row.get("alpha_t", 1) > 0
            assert not any(np.isnan(row[name]).any() for name in FURTHER)
        else:
            assert row["loss"] == 0 or (state >= BAD_TARGET and np.isnan(row["loss"]))
            assert row["log_loss"] == -INF
            assert row.get("alpha_t", 0) == 0
            assert (row["prediction"] == -1).all()
            assert all(np.isnan(row[name]) for name in FURTHER if name != "prediction")


class TestIgnored:
    @every_implementation()
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_the_logits_of_an_ignored_row_change_nothing(
        self, implementation: Implementation, smoothing: float
    ) -> None:
        for gamma in (0, 0.5, 2):
            logits, targets = moderate_rows(rows=5, classes=3)
            targets[2], others = -100, [0, 1, 3, 4]
            config: dict[str, Any] = {"alpha": [1, 2, 3], "gamma": gamma, "label_smoothing": smoothing}
            expected = implementation.score(logits[others], targets[others], **config)
            for value in (NAN, INF, -INF, 1e4):
                logits[2] = value
                result = implementation.score(logits, targets, **config)
                assert_same(rows_of(result, others), expected, rtol=1e-14)
                assert result["loss"][2] == 0
                if "gradient" in result:
                    assert result["gradient"][2].tolist() == [0, 0, 0]
                if "state" in result:
                    assert result["state"].tolist() == [COUNTED, COUNTED, IGNORED, COUNTED, COUNTED]

    @every_implementation()
    @pytest.mark.parametrize("value", [NAN, INF, -INF, 99.0])
    def test_a_missing_label_changes_nothing(self, implementation: Implementation, value: float) -> None:
        config: dict[str, Any] = {"mode": "sigmoid", "alpha": 0.25, "gamma": 0.5}
        with_missing = implementation.score(double([[0.5, value, -1.0]]), double([[1, -100, 0.3]]), **config)
        without = implementation.score(double([[0.5, -1.0]]), double([[1, 0.3]]), **config)
        for name, missing in (("prediction", -1), ("gradient", 0)):
            if name in with_missing:
                assert with_missing[name][0, 1] == missing
                with_missing[name] = with_missing[name][:, [0, 2]]
        assert_same(with_missing, without, rtol=1e-14)

    @every_implementation()
    def test_any_index_can_be_ignored(self, implementation: Implementation) -> None:
        for ignore_index in (0, 1, 255, -1, -(2**63), 2**63 - 1):
            logits, _ = moderate_rows(rows=4, classes=3)
            targets = torch.tensor([2, ignore_index, 2, 2])
            result = implementation.score(logits, targets, ignore_index=ignore_index)
            assert result["loss"][1] == 0
            assert (result["loss"][[0, 2, 3]] > 0).all()
            if "state" in result:
                assert result["state"].tolist() == [COUNTED, IGNORED, COUNTED, COUNTED]

    @every_implementation()
    def test_without_an_index_nothing_is_ignored(self, implementation: Implementation) -> None:
        implementation.need("bad_rows")
        targets = torch.tensor([0, -100])
        result = implementation.score(double([[0.0, 1.0]] * 2), targets, ignore_index=None)
        assert result["state"].tolist() == [COUNTED, BAD_TARGET]
        labels = targets.unsqueeze(1)
        result = implementation.score(double([[0.0]] * 2), labels, mode="sigmoid", ignore_index=None)
        assert result["state"].tolist() == [COUNTED, BAD_TARGET]


class TestNarrowTargets:
    """Targets are compared by value, not modulo the range of their dtype."""

    @every_implementation()
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
    def test_uint8_156_is_a_class_and_not_minus_100(self, implementation: Implementation, dtype: torch.dtype) -> None:
        last = 156 if dtype == torch.uint8 else -100
        result = implementation.score(torch.zeros(3, 200), torch.tensor([0, 120, last], dtype=dtype), gamma=0)
        expected = [math.log(200), math.log(200), math.log(200) if dtype == torch.uint8 else 0]
        assert result["loss"].tolist() == pytest.approx(expected, rel=1e-6)
        if "state" in result:
            assert result["state"].tolist() == [COUNTED, COUNTED, COUNTED if dtype == torch.uint8 else IGNORED]

    @every_implementation()
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
    def test_a_target_out_of_range_is_bad_in_every_dtype(
        self, implementation: Implementation, dtype: torch.dtype
    ) -> None:
        implementation.need("bad_rows")
        logits, _ = moderate_rows(rows=3, classes=3)
        targets = torch.tensor([0, 156 if dtype == torch.uint8 else 100, 1], dtype=dtype)
        assert implementation.score(logits, targets)["state"].tolist() == [COUNTED, BAD_TARGET, COUNTED]
        result = implementation.score(logits, targets, ignore_index=targets[1].item())
        assert result["state"].tolist() == [COUNTED, IGNORED, COUNTED]

    @every_implementation()
    def test_a_class_beyond_the_range_of_the_dtype(self, implementation: Implementation) -> None:
        logits = torch.zeros(1, 300, dtype=torch.float64)
        result = implementation.score(logits, torch.tensor([156], dtype=torch.uint8), gamma=0)
        assert result["loss"].item() == pytest.approx(math.log(300))

    @every_implementation()
    def test_an_unsigned_label_is_not_a_missing_label(self, implementation: Implementation) -> None:
        implementation.need("bad_rows")
        labels = torch.tensor([[0], [156]], dtype=torch.uint8)
        result = implementation.score(torch.zeros(2, 1), labels, mode="sigmoid")
        assert result["state"].tolist() == [COUNTED, BAD_TARGET]

    @every_implementation()
    @pytest.mark.parametrize("ignore_index", [257, -255])
    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    def test_an_ignore_index_beyond_the_range_of_the_dtype_ignores_nothing(
        self, implementation: Implementation, mode: str, ignore_index: int
    ) -> None:
        targets = torch.tensor([1, 0], dtype=torch.uint8)
        x, y = (torch.zeros(2, 2), targets) if mode == "softmax" else (torch.zeros(2, 1), targets.unsqueeze(1))
        result = implementation.score(x, y, mode=mode, gamma=0, ignore_index=ignore_index)
        assert result["loss"].tolist() == pytest.approx([math.log(2)] * 2)
        if "state" in result:
            assert result["state"].tolist() == [COUNTED, COUNTED]


class TestMaskedClasses:
    """A logit of -inf removes its class from the softmax."""

    @every_implementation()
    def test_masked_classes_do_not_change_the_scores(self, implementation: Implementation) -> None:
        logits, targets = moderate_rows(classes=3)
        wide = torch.full((len(logits), 5), -INF, dtype=torch.float64)
        wide[:, 1:4] = logits
        few, many = implementation.score(logits, targets), implementation.score(wide, targets + 1)
        # This score is normalised by the number of classes.
        for columns in (few, many):
            columns.pop("confidence_weighted_entropy", None)
        if "gradient" in many:
            assert (many["gradient"][:, [0, 4]] == 0).all()
            many["gradient"] = many["gradient"][:, 1:4]
        if "prediction" in many:
            many["prediction"] = many["prediction"] - 1
        assert_same(many, few, rtol=1e-12, atol=1e-14)

    @every_implementation()
    def test_a_row_whose_other_classes_are_masked_is_certain(self, implementation: Implementation) -> None:
        for gamma in GAMMAS:
            logits = torch.tensor([[-INF, -5.0, -INF], [0.0, 1.0, -INF]])
            result = implementation.score(logits, torch.tensor([1, 1]), alpha=[1.0, 2.0, 3.0], gamma=gamma)
            expected: dict[str, Any] = dict.fromkeys(
                ("state", "loss", "cross_entropy", "entropy", "el2n", "grad_norm"), 0
            )
            expected |= {"p_t": 1, "normalized_margin": 1, "log_odds": INF, "logit_margin": INF, "prediction": 1}
            expected |= {"confidence_weighted_entropy": 0, "log_loss": -INF, "alpha_t": 2, "gradient": [0, 0, 0]}
            for name, values in result.items():
                assert values[0].tolist() == expected[name], name
            assert not np.signbit(result["loss"]).any()
            assert result["loss"][1] > 0
            if "gradient" in result:
                assert np.isfinite(result["gradient"]).all()

    @every_implementation()
    def test_a_masked_negative_label_is_certain(self, implementation: Implementation) -> None:
        result = implementation.score(double([[-INF, 0.0]]), double([[0, 1]]), mode="sigmoid", gamma=0.5)
        assert result["loss"].item() == pytest.approx(math.sqrt(0.5) * math.log(2) / 2)
        assert all(np.isfinite(values).all() for values in result.values())
        if "entropy" in result:
            assert result["entropy"].item() == pytest.approx(math.log(2) / 2)
            assert result["el2n"].item() == pytest.approx(0.5)
