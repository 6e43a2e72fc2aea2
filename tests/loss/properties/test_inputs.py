"""Columns of the result of an implementation, and the tensors that it accepts and does not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.lanes import mostly_slow
from tests.loss.comparison import assert_equals_oracle, assert_near
from tests.loss.implementations import COLUMNS, FURTHER, Implementation, every_implementation
from tests.loss.samples import DTYPES, moderate_rows, random_rows

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "smoothed": {"label_smoothing": 0.1},
    "sigmoid": {"mode": "sigmoid"},
}
every_configuration = pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def rows_for(config: dict[str, Any], rows: int = 40, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits and targets (in sigmoid mode labels); the first target is ignored."""
    logits, targets = moderate_rows(rows, classes)
    if config.get("mode") == "sigmoid":
        targets = torch.nn.functional.one_hot(targets, classes)
    targets[:1] = -100
    return logits, targets


class TestColumns:
    @every_implementation()
    def test_all_columns_are_present_except_those_in_lacks(self, implementation: Implementation) -> None:
        result = implementation.score(*moderate_rows())
        assert result.keys() == set(COLUMNS) - implementation.lacks.keys()

    @every_implementation()
    def test_a_column_does_not_depend_on_other_requested_columns(self, implementation: Implementation) -> None:
        implementation.need(*FURTHER)
        logits, targets = moderate_rows()
        together = implementation.score(logits, targets)
        always = together.keys() - set(FURTHER)
        assert implementation.score(logits, targets, []).keys() == always
        for name in FURTHER:
            alone = implementation.score(logits, targets, [name])
            assert alone.keys() == always | {name}
            for other, values in alone.items():
                assert np.array_equal(values, together[other]), (name, other)

    @every_implementation()
    @every_configuration
    @pytest.mark.parametrize("dtype", mostly_slow(DTYPES, quick=2))
    def test_dtypes_and_shapes(
        self, implementation: Implementation, config: dict[str, Any], dtype: torch.dtype
    ) -> None:
        self.check(implementation, config, dtype, rows=2)
        self.check(implementation, config, dtype, rows=0)

    @staticmethod
    def check(implementation: Implementation, config: dict[str, Any], dtype: torch.dtype, rows: int) -> None:
        logits, targets = rows_for(config, rows, 3)
        result = implementation.score(logits.to(dtype), targets, **config)
        sigmoid = config.get("mode") == "sigmoid"
        width = np.float32 if implementation.rounds and dtype != torch.float64 else np.float64
        for name, values in result.items():
            if name in ("loss", *FURTHER):
                assert values.dtype == (np.int64 if name == "prediction" else width), name
            wide = name == "gradient" or (name == "prediction" and sigmoid)
            assert values.shape == ((rows, 3) if wide else (rows,)), name


class TestInputs:
    @every_implementation()
    @every_configuration
    @pytest.mark.parametrize("classes", mostly_slow([5, 200], quick=1))
    def test_logits_and_targets_are_not_changed(
        self, implementation: Implementation, config: dict[str, Any], classes: int
    ) -> None:
        for dtype in DTYPES:
            logits, targets = rows_for(config, classes=classes)
            logits = logits.to(dtype)
            before = logits.clone(), targets.clone()
            implementation.score(logits, targets, **config)
            assert torch.equal(logits, before[0])
            assert torch.equal(targets, before[1])

    @every_implementation()
    def test_rows_and_columns_of_a_larger_tensor(self, implementation: Implementation) -> None:
        for dtype in DTYPES:
            whole, targets = random_rows(12, 64, dtype)
            for view in (whole[:, 3:20], whole[::3, :32], whole[1:, 8:], whole[:, ::2], whole[:1].expand(12, 64)):
                assert_equals_oracle(implementation, view, targets[: len(view)].remainder(view.shape[1]))
            assert_equals_oracle(implementation, whole.t(), targets.repeat(6)[:64].remainder(12))
            assert_equals_oracle(implementation, random_rows(4, 12, dtype)[0], torch.arange(8)[::2])

    @every_implementation()
    def test_labels_of_a_larger_tensor(self, implementation: Implementation) -> None:
        logits, labels = rows_for({"mode": "sigmoid"})
        expected = implementation.score(logits[:, ::2].clone(), labels[:, ::2].clone(), mode="sigmoid")
        result = implementation.score(logits[:, ::2], labels[:, ::2], mode="sigmoid")
        for name, values in expected.items():
            assert_near(result[name], values, rtol=1e-14, name=name)

    @every_implementation()
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
    def test_targets_may_be_any_integers(self, implementation: Implementation, dtype: torch.dtype) -> None:
        logits, targets = moderate_rows()
        expected, result = implementation.score(logits, targets), implementation.score(logits, targets.to(dtype))
        for name, values in expected.items():
            assert np.array_equal(result[name], values), name

    @every_implementation()
    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
    def test_labels_may_be_any_numbers(self, implementation: Implementation, dtype: torch.dtype) -> None:
        logits, labels = moderate_rows(classes=3)[0], torch.tensor([[0, 1, 1]] * 40)
        expected = implementation.score(logits, labels, mode="sigmoid")
        result = implementation.score(logits, labels.to(dtype), mode="sigmoid")
        for name, values in expected.items():
            assert np.array_equal(result[name], values), name
