"""Requests that `evaluate` rejects: ids, limits, shapes, logits and targets; the error names the place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from service.compute.evaluation import Limits
from service.compute.invalid import ERRORS_NAMED
from service.errors import (
    InvalidIdsError,
    InvalidLogitError,
    InvalidTargetError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.schema.config import MAX_CLASSES
from service.schema.request import Batch
from tests.compute.sample_requests import (
    INF,
    LOGITS,
    NAN,
    TARGETS,
    batch,
    compute,
    locations,
    of_tensors,
    refused,
)


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

    @pytest.mark.parametrize(("smoothing", "soft"), [(0.1, False), (0.0, True)])
    def test_classes_of_a_loss_whose_memory_grows_with_them(self, smoothing: float, soft: bool) -> None:
        logits = np.zeros((1, MAX_CLASSES + 1), np.float16)
        targets = np.full_like(logits, 1 / logits.size) if soft else np.zeros(1, np.int64)
        error = refused([Batch(logits, targets)], {"label_smoothing": smoothing}, limits=Limits(2**20, 1))
        assert isinstance(error, TooManyElementsError)
        what = "soft labels and label_smoothing are for at most 524288 classes"
        assert error.detail == f"batch 0: {what}, the logits have 524289"

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
            ((2, 3), (2, 4), {}, "targets", "[2, 4]"),
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
