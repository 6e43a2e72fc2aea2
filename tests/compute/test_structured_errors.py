"""Structured requests that `evaluate` rejects, or whose invalid examples it excludes; the error names the element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from service.compute.evaluation import Limits
from service.errors import (
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    ShapeError,
    TooManyElementsError,
    TooManyExamplesError,
)
from service.schema.request import OUTPUTS, Batch
from tests.compute.sample_requests import compute, locations, refused

NAN, INF = math.nan, math.inf
SIGMOID = {"mode": "sigmoid"}


def zeros(logits: tuple[int, ...], targets: tuple[int, ...], offsets: Any = None) -> Batch:
    return Batch(
        np.zeros(logits, np.float32),
        np.zeros(targets, np.int64),
        offsets=None if offsets is None else np.array(offsets),
    )


class TestShapes:
    @pytest.mark.parametrize(
        ("layout", "batch", "config", "part", "text"),
        [
            ("rows", zeros((2, 3, 4), (2, 4)), {}, "logits", "takes logits (N, C), got shape [2, 3, 4]"),
            ("rows", zeros((2, 3), (2,), [0, 2]), {}, "offsets", "offsets are for the layout ragged"),
            ("dense", zeros((2, 3), (2,)), {}, "logits", "takes logits (N, C, d1, ...), got shape [2, 3]"),
            ("dense", zeros((2, 3, 4), (2,)), {}, "targets", "takes targets (N, d1, ...), got shape [2]"),
            ("dense", zeros((2, 3, 4), (2, 5)), {}, "targets", "logits [2, 3, 4] do not fit targets [2, 5]"),
            ("dense", zeros((2, 3, 4), (3, 4)), {}, "targets", "3 targets for 2 rows of logits"),
            ("dense", zeros((2, 1, 4), (2, 4)), {}, "logits", "at least 2 classes, the logits have 1"),
            ("dense", zeros((2, 3, 4), (2, 4)), {"alpha": [1, 2]}, "logits", "2 weights, the logits 3 classes"),
            ("dense", zeros((2,), (2,)), SIGMOID, "logits", "(N, H, W) or (N, d1), got shape [2]"),
            ("dense", zeros((2, 3, 4), (2, 4)), SIGMOID, "targets", "[2, 3, 4] and targets [2, 4] differ"),
            ("dense", zeros((2, 0, 4, 4), (2, 0, 4, 4)), SIGMOID, "logits", "at least one label"),
            ("dense", zeros((2, 3, 4), (2, 3, 4)), SIGMOID | {"alpha": [0.1, 0.2]}, "logits", "the logits 3 labels"),
            ("dense", zeros((2, 3, 4), (2, 4), [0, 2]), {}, "offsets", "this request has the layout dense"),
            ("dense", zeros((1, 2, *[1] * 20), (1, *[1] * 20)), {}, "logits", "at most 8 axes, got 22"),
            ("ragged", zeros((2, 3, 4), (2, 4), [0, 2]), {}, "logits", "takes logits (T, C), got shape [2, 3, 4]"),
            ("ragged", zeros((2, 3), (2,)), {}, "offsets", "needs offsets (N + 1,)"),
            ("ragged", zeros((2, 3), (2,), [0.0, 2.0]), {}, "offsets", "offsets are integers (N + 1,), got float64"),
            ("ragged", zeros((2, 3), (2,), [[0, 2]]), {}, "offsets", "got int64 of shape [1, 2]"),
            ("ragged", zeros((2, 3), (2,), np.zeros(0, np.int64)), {}, "offsets", "got int64 of shape [0]"),
            ("ragged", zeros((2, 3), (2,), [0, 2, 1, 2]), {}, "offsets", "offsets never fall, and 1 follows 2"),
            ("ragged", zeros((2, 3), (2,), [1, 2]), {}, "offsets", "offsets begin with 0, got 1"),
            ("ragged", zeros((2, 3), (2,), [0, 3]), {}, "offsets", "offsets end with the number of targets, 2, got 3"),
            ("ragged", zeros((2, 3, 4), (2, 3, 4), [0, 2]), SIGMOID, "logits", "(T,) or (T, L), got shape [2, 3, 4]"),
        ],
    )
    def test_wrong_shapes(self, layout: str, batch: Batch, config: dict[str, Any], part: str, text: str) -> None:
        error = refused([batch], config, layout=layout)
        assert isinstance(error, ShapeError)
        assert locations(error)[0][:3] == ["batches", 0, part]
        assert text in error.detail

    def test_as_many_axes_as_there_may_be(self) -> None:
        batch = zeros((1, 2, 3, 1, 2, 1, 2, 1), (1, 3, 1, 2, 1, 2, 1))
        batch.logits[:, 1] = 1
        (result,) = compute([batch], layout="dense", outputs=["regions"]).batches
        assert result.regions is not None
        assert result.regions.stop.tolist() == [[3, 1, 2, 1, 2, 1]]

    def test_ids_are_those_of_examples(self) -> None:
        batch = zeros((5, 3), (5,), [0, 5])
        error = refused([Batch(batch.logits, batch.targets, ["a", "b"], offsets=batch.offsets)], layout="ragged")
        assert isinstance(error, ShapeError)
        assert "2 ids for 1 examples" in error.detail

    @pytest.mark.parametrize(
        ("layout", "logits", "targets", "offsets", "shape"),
        [
            ("rows", (3, 2), (3, 2), None, (3, 2)),
            ("dense", (3, 5), (3, 5), None, (3, 5)),
            ("dense", (3, 1, 4, 5), (3, 4, 5), None, (3, 4, 5)),
            ("dense", (3, 2, 4, 5), (3, 2, 4, 5), None, (3, 2, 4, 5)),
            ("dense", (2, 3, 0), (2, 3, 0), None, (2, 3, 0)),
            ("ragged", (4,), (4,), [0, 1, 1, 4], (4,)),
            ("ragged", (4, 1), (4,), [0, 1, 1, 4], (4,)),
            ("ragged", (4, 2), (4, 2), [0, 1, 1, 4], (4, 2)),
        ],
    )
    def test_shapes_of_sigmoid_mode(self, layout: str, logits: Any, targets: Any, offsets: Any, shape: Any) -> None:
        result = compute([zeros(logits, targets, offsets)], SIGMOID, layout=layout, elements=["loss", "prediction"])
        (batch,) = result.batches
        assert batch.per_element["loss"].shape == batch.per_element["prediction"].shape == shape
        assert result.num_elements == math.prod(targets)

    @pytest.mark.parametrize("config", [{}, {"alpha": [1, 2, 3]}, SIGMOID, SIGMOID | {"alpha": [0.1, 0.2]}])
    @pytest.mark.parametrize(("layout", "offsets"), [("dense", None), ("ragged", [0]), ("ragged", [0, 0, 0])])
    def test_the_empty_list_of_json(self, layout: str, offsets: Any, config: dict[str, Any]) -> None:
        batch = Batch(np.zeros(0), np.zeros(0, np.int64), offsets=None if offsets is None else np.array(offsets))
        options = {"outputs": ["loss", "label_quality", "regions"], "elements": ["loss"]}
        result = compute([batch], config, layout=layout, **options)
        examples = 0 if offsets is None else len(offsets) - 1
        assert (result.loss, result.num_examples, result.num_ignored) == (None, examples, examples)
        assert result.batches[0].per_element["loss"].shape == (0,)


class TestOptions:
    @pytest.mark.parametrize("layout", ["dense", "ragged"])
    def test_a_structured_example_has_no_prediction(self, layout: str) -> None:
        batch = zeros((2, 3, 4), (2, 4)) if layout == "dense" else zeros((2, 3), (2,), [0, 2])
        error = refused([batch], layout=layout, outputs=["loss", "prediction"])
        assert locations(error) == [["outputs", 1]]
        assert 'ask for elements: ["prediction"]' in error.detail
        assert compute([batch], layout=layout, elements=["prediction"]).batches[0].per_element["prediction"].sum() == 0

    def test_a_weighted_mean_has_no_other_divisor(self) -> None:
        error = refused([zeros((2, 3), (2,))], {"reduction": "weighted_mean"}, divisor=3)
        assert isinstance(error, InvalidRequestError)
        assert locations(error) == [["divisor"]]

    def test_limits(self) -> None:
        ragged = zeros((6, 2), (6,), [0, 1, 6])
        assert compute([ragged] * 2, layout="ragged", limits=Limits(12, 4)).num_elements == 12
        assert isinstance(refused([ragged] * 2, layout="ragged", limits=Limits(12, 3)), TooManyExamplesError)
        assert isinstance(refused([ragged], layout="ragged", limits=Limits(11, 9)), TooManyElementsError)
        many = refused([zeros((1,), (6,), [0, 6])], layout="ragged", limits=Limits(5, 9))
        assert many.detail == "batch 0 has 6 targets, the limit is 5 (max_elements)"


class TestInvalidElements:
    @pytest.mark.parametrize(
        ("layout", "config", "place", "value", "loc", "detail"),
        [
            ("dense", {}, ("logits", (1, 2, 3, 0)), NAN, [1, 3, 0, 2], "row 1, element [3, 0], column 2: logit NaN"),
            ("dense", {}, ("targets", (1, 3, 0)), 9, [1, 3, 0], "row 1, element [3, 0]: target 9 is outside [0, 3)"),
            ("dense", SIGMOID, ("logits", (1, 2, 3, 0)), INF, [1, 2, 3, 0], "row 1, element [2, 3, 0]: logit +inf"),
            ("dense", SIGMOID, ("targets", (0, 2, 3, 1)), 2, [0, 2, 3, 1], "row 0, element [2, 3, 1]: target 2 is"),
            ("ragged", {}, ("logits", (5, 1)), NAN, [2, 2, 1], "row 2, element 2, column 1: logit NaN"),
            ("ragged", {}, ("targets", (5,)), -1, [2, 2], "row 2, element 2: target -1 is outside [0, 3)"),
            ("ragged", SIGMOID, ("logits", (5, 1)), NAN, [2, 2, 1], "row 2, element [2, 1]: logit NaN"),
        ],
    )
    def test_the_error_names_the_element(
        self, layout: str, config: dict[str, Any], place: Any, value: float, loc: Any, detail: str
    ) -> None:
        parts = self._arrays(layout, config)
        parts[place[0]][place[1]] = value
        batch = Batch(
            parts["logits"], parts["targets"], list("abc")[: 2 if layout == "dense" else 3], None, parts.get("offsets")
        )
        error = refused([batch], config, layout=layout)
        assert isinstance(error, InvalidLogitError if place[0] == "logits" else InvalidTargetError)
        assert error.detail.startswith(f"batch 0, {detail}")
        assert locations(error) == [["batches", 0, place[0], *loc]]
        result = compute(
            [batch],
            config,
            layout=layout,
            on_invalid="exclude",
            outputs=["loss", "num_valid", "max_loss"],
            elements=["loss", "contribution", "prediction"],
        )
        clean = [number for number in range(batch.num_examples) if number != loc[0]]
        (part,) = result.batches
        assert (result.num_excluded, [row.index for row in result.excluded]) == (1, [loc[0]])
        assert result.excluded[0].msg == error.detail
        assert np.isnan(part.per_example["loss"]).tolist() == [number == loc[0] for number in range(batch.num_examples)]
        assert part.per_example["num_valid"][loc[0]] == 0
        assert part.num_elements == part.per_example["num_valid"][clean].sum() > 0
        rows = slice(*parts["offsets"][loc[0] : loc[0] + 2]) if layout == "ragged" else loc[0]
        assert np.isnan(part.per_element["loss"][rows]).all()
        assert not part.per_element["contribution"][rows].any()
        assert (part.per_element["prediction"][rows] == -1).all()
        assert np.count_nonzero(np.isnan(part.per_element["loss"])) == part.per_element["loss"][rows].size
        assert part.per_element["contribution"].sum() == pytest.approx(result.loss)

    def _arrays(self, layout: str, config: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        shape = (2, 3, 4, 2) if layout == "dense" else (6, 3)
        rng = np.random.default_rng(0)
        logits = rng.normal(size=shape)
        targets = rng.integers(0, 2, shape if config else (shape[0], *shape[2:]))
        return {"logits": logits, "targets": targets} | (
            {"offsets": np.array([0, 3, 3, 6])} if layout == "ragged" else {}
        )

    def test_a_bad_target_is_named_before_a_bad_logit(self) -> None:
        batch = zeros((2, 3, 4), (2, 4))
        batch.logits[1, 0, 0], batch.targets[1, 3] = NAN, 7
        error = refused([batch], layout="dense")
        assert error.detail == "batch 0, row 1, element 3: target 7 is outside [0, 3) and is not ignore_index (-100)"

    def test_the_others_are_counted(self) -> None:
        batch = Batch(np.full((30, 2, 3), NAN), np.zeros((30, 3), np.int64))
        error = refused([batch], layout="dense")
        assert error.detail == "batch 0, row 0, element 0, column 0: logit NaN (and 29 more examples)"
        assert len(error.errors) == 20

    @pytest.mark.parametrize(
        ("value", "loc", "text"),
        [
            ("x", [1, 2], "'x' is not a number"),
            (None, [1, 2], "no value (null)"),
            (1.5, [1, 2], "class indices, got 1.5"),
        ],
    )
    def test_targets_that_are_no_labels(self, value: Any, loc: list[int], text: str) -> None:
        targets = np.full((2, 4), 0, object)
        targets[1, 2] = value
        error = refused([Batch(np.zeros((2, 3, 4)), targets)], layout="dense")
        assert isinstance(error, InvalidTargetError)
        assert error.detail.startswith("batch 0, row 1, element 2: ")
        assert text in error.detail
        assert locations(error) == [["batches", 0, "targets", *loc]]
        flat = Batch(np.zeros((8, 3)), targets.reshape(8), offsets=np.array([0, 4, 4, 8]))
        error = refused([flat], layout="ragged")
        assert error.detail.startswith("batch 0, row 2, element 2: ")
        excluded = compute([flat], layout="ragged", on_invalid="exclude").excluded
        assert [row.index for row in excluded] == [2]


class TestSoftLabels:
    Y = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    LOGITS = np.array([[2, 0.1, -1], [0.3, 0.2, 0.9]])

    def test_fixture(self) -> None:
        """Values of the definition, in every layout and as one-hot integers."""
        for gamma, expected in ((0, [0.8617845, 1.0655919]), (2, [0.6148128, 0.4992992])):
            config = {"gamma": gamma}
            rows = compute([Batch(self.LOGITS, self.Y)], config, elements=["loss"])
            assert rows.batches[0].per_element["loss"].tolist() == pytest.approx(expected, rel=1e-6)
            dense = compute([Batch(self.LOGITS.T[np.newaxis], self.Y.T[np.newaxis])], config, layout="dense")
            ragged = compute([Batch(self.LOGITS, self.Y, offsets=np.array([0, 2]))], config, layout="ragged")
            assert rows.loss == dense.loss == ragged.loss == pytest.approx(sum(expected) / 2, rel=1e-6)
        one_hot = np.eye(3, dtype=np.int64)[[0, 2]]
        hard = compute([Batch(self.LOGITS, np.array([0, 2]))])
        assert compute([Batch(self.LOGITS, one_hot)]).loss == pytest.approx(hard.loss, rel=1e-12)

    def test_outputs_of_rows(self) -> None:
        """The class with the largest share stands for the label; a row has one prediction."""
        outputs = [
            name for name in OUTPUTS if name not in ("loss", "contribution", "cross_entropy", "el2n", "grad_norm")
        ]
        (soft,) = compute([Batch(self.LOGITS, self.Y)], outputs=outputs).batches
        (hard,) = compute([Batch(self.LOGITS, self.Y.argmax(1))], outputs=outputs).batches
        for name in outputs:
            if name != "max_loss":
                np.testing.assert_allclose(soft.per_example[name], hard.per_example[name], err_msg=name)
        assert soft.per_example["prediction"].tolist() == [0, 2]

    def test_ignored(self) -> None:
        labels = np.stack([self.Y[0], np.full(3, -100.0)])
        result = compute([Batch(self.LOGITS, labels)])
        assert (result.num_ignored, result.num_elements) == (1, 1)
        assert result.loss == pytest.approx(0.6148128, rel=1e-6)

    @pytest.mark.parametrize(
        ("row", "column", "text"),
        [
            ([0.5, 0.5, 0.1], None, "the soft labels of the classes add up to 1.1, not to 1"),
            ([0.5, -0.5, 1], 1, "soft label -0.5 is not in [0, 1]"),
            ([0.5, NAN, 0.5], 1, "soft label NaN is not in [0, 1]"),
        ],
    )
    def test_rows_that_are_no_distribution(self, row: list[float], column: int | None, text: str) -> None:
        labels = np.stack([self.Y[0], row])
        for batch, layout, place in (
            (Batch(self.LOGITS, labels), "rows", "batch 0, row 1"),
            (Batch(self.LOGITS.T[np.newaxis], labels.T[np.newaxis]), "dense", "batch 0, row 0, element 1"),
        ):
            error = refused([batch], layout=layout)
            assert isinstance(error, InvalidTargetError)
            assert error.detail.startswith(place + (": " if column is None else f", column {column}: ") + text)

    def test_no_smoothing_of_soft_labels(self) -> None:
        error = refused([Batch(self.LOGITS, self.Y)], {"label_smoothing": 0.1})
        assert locations(error) == [["batches", 0, "targets"]]
        assert "label_smoothing" in error.detail


def test_probabilities_are_noticed_in_every_layout() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    targets = np.zeros(20, np.int64)
    ragged = compute([Batch(probabilities, targets, offsets=np.array([0, 5, 20]))], layout="ragged")
    dense = compute([Batch(probabilities.reshape(2, 10, 3).transpose(0, 2, 1), targets.reshape(2, 10))], layout="dense")
    assert [warning.code for result in (ragged, dense) for warning in result.warnings] == [
        "probabilities_as_logits"
    ] * 2
    assert compute([zeros((2, 3, 4), (2, 4))], layout="dense").warnings == ()
