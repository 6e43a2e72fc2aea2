"""The diagnostics as a whole: every member, what-if losses, and each warning exactly when it applies."""

from __future__ import annotations

import statistics
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from cleanlab.dataset import health_summary
from torch.nn.functional import cross_entropy

from service.diagnostics import classes, summary, warnings
from service.diagnostics.concentration import histogram
from service.diagnostics.summary import FIELDS, diagnostics
from service.errors import InvalidRequestError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.replies.diagnostics import Diagnostics, Histogram
from tests.lanes import mostly_slow
from tests.replies import assert_is
from tests.runs.temp_runs import TempRuns, noisy, scored, temp_runs

KEYS = [
    "run",
    "epoch",
    "epochs",
    "num_examples",
    "num_ignored",
    "num_excluded",
    "num_classes",
    "alpha",
    "gamma",
    "num_duplicates",
    "loss",
    "classes",
    "confusion",
    "class_pairs",
    "histogram",
    "concentration",
    "concentration_at_gamma_0",
    "calibration",
    "label_errors",
    "suggested_alpha",
    "warnings",
]
NOISE = {"label_noise", "inverse_label_noise", "label_quality", "label_issues", "inverse_label_issues", "often_truly"}


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as store:
        yield store


def diagnose(
    runs: TempRuns,
    epoch: int = 0,
    run: str = "r",
    alpha: tuple[float, ...] | None = None,
    gamma: float | None = None,
) -> Diagnostics:
    reply = runs.ask(lambda view: diagnostics(view, view.weighting(alpha, gamma), epoch), run)
    assert list(reply) == KEYS
    assert_is(Diagnostics, reply)
    # NaN would be null on the wire, where a number is expected.
    assert orjson.loads(orjson.dumps(reply)) == orjson.loads(orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY))
    return reply


def codes(reply: Diagnostics) -> list[str]:
    assert all(warning["message"].endswith(".") for warning in reply["warnings"])
    return [warning["code"] for warning in reply["warnings"]]


def sound_data(rows: int = 300, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Data without a warning: the model is neither too accurate nor over-confident, and no class is small."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 3)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([generator.choice(3, p=row / row.sum()) for row in p.astype(np.float64)])
    return logits, targets


@pytest.mark.parametrize("reduction", mostly_slow(["weighted_mean", "mean", "sum", "none"], quick=1))
def test_counts_and_losses(runs: TempRuns, reduction: str) -> None:
    runs.create({"alpha": [1, 2, 0.5], "gamma": 1, "reduction": reduction})
    logits, targets = noisy(200, 3, 3)
    targets[:7] = -100
    logits[7:10] = np.nan
    result = runs.put(logits, targets, epoch=2, on_invalid="exclude")
    runs.put(logits[10:20], targets[10:20], [f"e{row:04d}" for row in range(10, 20)], epoch=2, batch="again")
    runs.put(logits[10:], targets[10:], epoch=4)
    reply = diagnose(runs, 2)
    assert (reply["run"], reply["epoch"], reply["epochs"], reply["num_classes"]) == ("r", 2, [2, 4], 3)
    assert (reply["num_examples"], reply["num_duplicates"]) == (190, 10)
    assert (reply["num_ignored"], reply["num_excluded"]) == (7, 3)
    assert (reply["alpha"], reply["gamma"]) == ([1, 2, 0.5], 1)
    rows = scored(runs.counted(epoch=2), (1, 2, 0.5), 1)
    x = [row["loss"] for row in rows]
    loss = reply["loss"]
    assert loss["sum"] == pytest.approx(sum(x))
    assert loss["alpha_sum"] == pytest.approx(sum(row["alpha_t"] for row in rows))
    assert (loss["mean"], loss["max"]) == (pytest.approx(statistics.fmean(x)), pytest.approx(max(x)))
    assert loss["median"] == pytest.approx(statistics.median(x))
    assert loss["accuracy"] == pytest.approx(np.mean([row["prediction"] == row["target"] for row in rows]))
    by = {"mean": len(rows), "weighted_mean": loss["alpha_sum"], "sum": 1, "none": None}[reduction]
    assert loss["value"] == (None if by is None else pytest.approx(sum(x) / by))
    assert loss["reduction"] == reduction
    whole = diagnose(runs, 4)["loss"]["value"]
    assert whole == (None if result.loss is None else pytest.approx(loss_of_batch(runs, logits, targets), rel=1e-5))


def loss_of_batch(runs: TempRuns, logits: np.ndarray, targets: np.ndarray) -> float:
    """Loss that `/loss` computes for the rows of epoch 4."""
    result = runs.put(logits[10:], targets[10:], epoch=9)
    assert result.loss is not None
    return result.loss


def test_at_gamma_0_the_loss_equals_torchs_cross_entropy(runs: TempRuns) -> None:
    runs.create({"reduction": "weighted_mean"})
    logits, targets = noisy(150, 4, 2)
    runs.put(logits, targets)
    weights = (1.0, 0.25, 3.0, 2.0)
    reply = diagnose(runs, alpha=weights, gamma=0)
    expected = cross_entropy(torch.tensor(logits).double(), torch.tensor(targets), torch.tensor(weights).double())
    assert reply["loss"]["value"] == pytest.approx(expected.item(), rel=1e-6)
    assert (reply["alpha"], reply["gamma"]) == (list(weights), 0)
    assert reply["concentration"] == reply["concentration_at_gamma_0"]
    assert reply["class_pairs"] == diagnose(runs)["class_pairs"]


def test_a_what_if_loss_equals_that_of_a_run_with_this_config(runs: TempRuns) -> None:
    logits, targets = noisy(150, 3, 2)
    runs.create({"alpha": [3, 1, 2], "gamma": 0.5})
    runs.create(run="other")
    for run in ("r", "other"):
        runs.put(logits, targets, run=run)
    own, what_if = diagnose(runs), diagnose(runs, run="other", alpha=(3, 1, 2), gamma=0.5)
    assert own | {"run": "other"} == what_if
    assert own["loss"]["sum"] != diagnose(runs, run="other")["loss"]["sum"]
    gini = [diagnose(runs, gamma=gamma)["concentration"]["gini"] for gamma in (0, 1, 2, 5)]
    assert gini == sorted(gini)
    assert len(set(gini)) == 4


def test_label_noise_equals_that_of_cleanlab(runs: TempRuns) -> None:
    logits, targets = noisy(400, 4, 6)
    runs.create()
    runs.put(logits, targets)
    reply = diagnose(runs)
    p = torch.softmax(torch.tensor(logits).double(), 1).numpy()
    expected = health_summary(targets, p, verbose=False)
    health = expected["classes_by_label_quality"].sort_values("Class Index")
    for name in ("Label Noise", "Inverse Label Noise", "Label Quality Score", "Label Issues", "Inverse Label Issues"):
        key = {"Label Quality Score": "label_quality"}.get(name, name.lower().replace(" ", "_"))
        assert [row[key] for row in reply["classes"]] == pytest.approx(health[name].tolist()), name
    assert set(reply["classes"][0]) > NOISE
    errors = reply["label_errors"]
    assert errors["health"] == pytest.approx(1 - errors["off_diagonal"] / 400)
    assert errors["estimated"] == errors["off_diagonal_calibrated"] > 0
    assert errors["share"] == errors["estimated"] / 400
    assert len(errors["thresholds"]) == 4
    assert len(reply["class_pairs"]) == len(expected["overlapping_classes"])


def test_a_run_without_examples(runs: TempRuns) -> None:
    runs.create(class_names=["a", "b"])
    reply = diagnose(runs)
    assert codes(reply) == ["no_examples"]
    assert (reply["num_examples"], reply["epochs"], reply["label_errors"], reply["suggested_alpha"]) == (
        0,
        [],
        None,
        None,
    )
    assert reply["loss"] == {
        "value": None, "reduction": "mean", "sum": 0, "alpha_sum": 0, "mean": None, "median": None, "max": None,
        "accuracy": None,
    }  # fmt: skip
    runs.create(run="ignored")
    runs.put([[0.0, 1.0]], [-100], run="ignored")
    reply = diagnose(runs, run="ignored")
    assert codes(reply) == ["no_examples"]
    assert (reply["num_ignored"], reply["calibration"]["ece"], reply["label_errors"]["share"]) == (1, None, None)
    assert reply["label_errors"]["thresholds"] == [None, None]


def test_a_loss_beyond_float64_is_null(runs: TempRuns) -> None:
    runs.create()
    runs.put([[0.0, 60000], [0.0, 1]], [0, 0])
    reply = orjson.loads(orjson.dumps(diagnose(runs, alpha=(1e308, 1.0))))
    assert (reply["loss"]["sum"], reply["loss"]["max"], reply["classes"][0]["loss_share"]) == (None, None, None)


def test_a_run_without_logits(runs: TempRuns) -> None:
    runs.create(store_logits=False)
    runs.put(*sound_data())
    reply = diagnose(runs)
    assert codes(reply) == ["no_logits"]
    assert (reply["label_errors"], reply["calibration"], reply["class_pairs"]) == (None, None, None)
    assert not NOISE & set(reply["classes"][0])
    assert reply["concentration"]["gini"] > 0


def test_sound_data_has_no_warning(runs: TempRuns) -> None:
    runs.create()
    runs.put(*sound_data())
    assert codes(diagnose(runs)) == []


def _memorised(runs: TempRuns, rows: int, wrong: int) -> None:
    # A confidence of 95 %: not over-confident.
    targets = np.arange(rows) % 2
    logits = np.eye(2, dtype=np.float32)[targets] * 3
    logits[:wrong] = logits[:wrong, ::-1]
    runs.create()
    runs.put(logits, targets)


Case = tuple[str, Callable[[TempRuns], Any], Callable[[TempRuns], Any]]
X, Y = sound_data()


def _whole(runs: TempRuns, **run: Any) -> None:
    runs.create(**run)
    runs.put(X, Y)


def _two_epochs(runs: TempRuns, now: int, then: int) -> None:
    runs.create()
    runs.put(X[:now], Y[:now])
    runs.put(X[:then], Y[:then], epoch=1)


def _small_class(runs: TempRuns, number: int) -> None:
    runs.create()
    rows = np.concatenate([np.flatnonzero(Y < 2), np.flatnonzero(Y == 2)[:number]])
    runs.put(X[rows], Y[rows])


def _duplicate(runs: TempRuns, identity: str) -> None:
    _whole(runs)
    runs.put(X[:1], Y[:1], [identity], batch="again")


def _scaled(runs: TempRuns, factor: float) -> None:
    runs.create()
    runs.put(X * np.float32(factor), Y)


CASES: list[Case] = [
    ("in_sample", lambda runs: _memorised(runs, 200, 1), lambda runs: _memorised(runs, 200, 2)),
    ("in_sample", lambda runs: _memorised(runs, 100, 0), lambda runs: _memorised(runs, 99, 0)),
    ("partial_epoch", lambda runs: _two_epochs(runs, 299, 300), lambda runs: _two_epochs(runs, 300, 300)),
    ("partial_epoch", lambda runs: _two_epochs(runs, 200, 300), lambda runs: _two_epochs(runs, 300, 200)),
    ("small_classes", lambda runs: _small_class(runs, 9), lambda runs: _small_class(runs, 10)),
    ("duplicated_ids", lambda runs: _duplicate(runs, "e0000"), lambda runs: _duplicate(runs, "new")),
    ("no_logits", lambda runs: _whole(runs, store_logits=False), lambda runs: _whole(runs, store_logits=True)),
    (
        "class_weights",
        lambda runs: _whole(runs, config={"alpha": [1, 2, 1]}),
        lambda runs: _whole(runs, config={"alpha": [2, 2, 2]}),
    ),
    ("over_confident", lambda runs: _scaled(runs, 3), lambda runs: _scaled(runs, 0.9)),
]


@pytest.mark.parametrize(
    "case",
    mostly_slow([(case,) for case in CASES], quick=3),
    ids=[f"{number}-{code}" for number, (code, *_) in enumerate(CASES)],
)
def test_a_warning_is_present_exactly_when_it_applies(case: Case) -> None:
    code, due, not_due = case
    for make, expected in ((due, True), (not_due, False)):
        with temp_runs() as runs:
            make(runs)
            present = codes(diagnose(runs))
        assert (code in present) is expected, present
        if code != "in_sample":
            assert set(present) <= {code}


def test_warnings_name_their_numbers(runs: TempRuns) -> None:
    runs.create({"alpha": [1, 2] + [1] * 28}, class_names=[f"k{label}" for label in range(30)])
    logits = np.zeros((12, 30), dtype=np.float32)
    runs.put(logits, [0] * 11 + [1])
    runs.put(logits, [0] * 12, epoch=1)
    runs.put(logits[:1], [0], ["e0012"], epoch=1, batch="more")
    runs.put(logits[:1], [0], epoch=1, batch="again")
    first, second = (
        {warning["code"]: warning["message"] for warning in diagnose(runs, epoch)["warnings"]} for epoch in (0, 1)
    )
    assert "Epoch 0 has 12 of the 13 examples" in first["partial_epoch"]
    assert "k1 (1), k2 (0)" in first["small_classes"]
    assert "and 19 more" in first["small_classes"]
    assert "1 rows of epoch 1" in second["duplicated_ids"]


def test_selected_fields_equal_those_of_all_fields(runs: TempRuns) -> None:
    runs.create()
    runs.put(*sound_data())
    whole = diagnose(runs)
    for field in set(FIELDS) - {"elements"}:
        reply = runs.ask(lambda view, field=field: diagnostics(view, view.weighting(), 0, [field]))
        assert_is(Diagnostics, reply)
        assert set(reply) == set(KEYS) - set(FIELDS) | {field}
        assert reply[field] == whole[field]
    with pytest.raises(InvalidRequestError, match="unknown field 'histograms'; known are num_duplicates, loss"):
        runs.ask(lambda view: diagnostics(view, view.weighting(), 0, ["loss", "histograms"]))


def test_a_field_is_computed_once_for_the_same_rows_and_loss(runs: TempRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    computed_for = []

    def counted(view: View, weighting: Weighting, epoch: int) -> Histogram:
        computed_for.append((weighting.gamma, epoch))
        return histogram(view, weighting, epoch)

    monkeypatch.setattr(summary, "histogram", counted)
    runs.create()
    runs.put(*sound_data())
    assert diagnose(runs) == diagnose(runs)
    diagnose(runs, gamma=0.5)
    assert computed_for == [(2.0, 0), (0.5, 0)]
    # Merging files leaves the rows unchanged; another batch does not.
    runs.put(*sound_data(30, 2), [f"n{row}" for row in range(30)], batch="more")
    assert diagnose(runs)["histogram"]["counts"] != []
    runs.merge(0)
    diagnose(runs)
    assert computed_for[2:] == [(2.0, 0)]


@pytest.mark.parametrize("rows", [0, 12])
def test_many_classes(runs: TempRuns, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    # Class 5 + i has one example with the prediction 4 and the i-th smallest loss.
    logits, targets = np.zeros((rows, 30), np.float32), np.arange(rows) + 5
    logits[:, 4] = np.arange(rows) + 1
    runs.create(class_names=[f"c{i}" for i in range(30)])
    runs.put(logits, targets)
    for module in (classes, summary, warnings):
        monkeypatch.setattr(module, "TABLE_CLASSES", 7)
    reply = orjson.loads(orjson.dumps(diagnose(runs)))
    assert [row["class"] for row in reply["classes"]] == ([] if rows == 0 else list(range(10, 17)))
    assert reply["suggested_alpha"] is None
    assert reply["label_errors"]["thresholds"] is None
    texts = {warning["code"]: warning["message"] for warning in reply["warnings"]}
    assert "30 classes" in texts["many_classes"]
    if rows:
        row = reply["classes"][-1]
        assert (row["name"], row["count"], row["most_confused"]) == ("c16", 1, {"class": 4, "count": 1})
        assert row["loss_share"] == pytest.approx(row["loss_sum"] / reply["loss"]["sum"])
        assert texts["small_classes"].startswith("30 of 30 classes have fewer than 10 examples.")
    assert_is(Diagnostics, reply)


@pytest.mark.slow
def test_time_and_memory_grow_with_the_rows_and_classes_but_not_with_the_square_of_the_classes(runs: TempRuns) -> None:
    num_classes = 20_000
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((50, num_classes)).astype(np.float16)
    runs.create()
    runs.put(logits, generator.integers(0, num_classes, len(logits)))
    tracemalloc.start()
    reply = diagnose(runs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reply["label_errors"]["estimated"] <= 50
    assert peak < 100 * 2**20  # one matrix of these classes takes 3 GB
    assert len(orjson.dumps(reply)) < 2**20
