"""The diagnostics as a whole: every number where it belongs, what if, and each warning exactly where it is due."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from cleanlab.dataset import health_summary
from torch.nn.functional import cross_entropy

from service.diagnostics import summary
from service.diagnostics.concentration import histogram
from service.diagnostics.summary import FIELDS, diagnostics
from service.errors import InvalidRequestError
from service.runs.queries import View, Weighting
from service.schema.replies.diagnostics import Diagnostics
from tests.replies import assert_is
from tests.runs.kept import Kept, kept, noisy, scored

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
def runs() -> Iterator[Kept]:
    with kept() as made:
        yield made


def told(
    runs: Kept, epoch: int = 0, run: str = "r", alpha: tuple[float, ...] | None = None, gamma: float | None = None
) -> dict[str, Any]:
    found = runs.ask(lambda view: diagnostics(view, view.weighting(alpha, gamma), epoch), run)
    assert list(found) == KEYS
    assert_is(Diagnostics, found)
    # NaN would be null on the wire, where a number is expected.
    assert orjson.loads(orjson.dumps(found)) == orjson.loads(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))
    return found


def codes(found: dict[str, Any]) -> list[str]:
    assert all(set(one) == {"code", "message"} and one["message"].endswith(".") for one in found["warnings"])
    return [one["code"] for one in found["warnings"]]


def plain(rows: int = 300, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Data with nothing to be careful about: not too right, not too sure, thirty of each class."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 3)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([generator.choice(3, p=row / row.sum()) for row in p.astype(np.float64)])
    return logits, targets


@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
def test_counts_and_losses(runs: Kept, reduction: str) -> None:
    runs.make({"alpha": [1, 2, 0.5], "gamma": 1, "reduction": reduction})
    logits, targets = noisy(200, 3, 3)
    targets[:7] = -100
    logits[7:10] = np.nan
    answered = runs.put(logits, targets, epoch=2, on_invalid="exclude")
    runs.put(logits[10:20], targets[10:20], [f"e{row:04d}" for row in range(10, 20)], epoch=2, batch="again")
    runs.put(logits[10:], targets[10:], epoch=4)
    found = told(runs, 2)
    assert (found["run"], found["epoch"], found["epochs"], found["num_classes"]) == ("r", 2, [2, 4], 3)
    assert (found["num_examples"], found["num_duplicates"]) == (200, 10)
    assert (found["num_ignored"], found["num_excluded"]) == (7, 3)
    assert (found["alpha"], found["gamma"]) == ([1, 2, 0.5], 1)
    rows = scored(runs.raw(epoch=2), (1, 2, 0.5), 1)
    x = [row["loss"] for row in rows]
    loss = found["loss"]
    assert loss["sum"] == pytest.approx(sum(x))
    assert loss["alpha_sum"] == pytest.approx(sum(row["alpha_t"] for row in rows))
    assert (loss["mean"], loss["max"]) == (pytest.approx(statistics.fmean(x)), pytest.approx(max(x)))
    assert loss["median"] == pytest.approx(statistics.median(x))
    assert loss["accuracy"] == pytest.approx(np.mean([row["prediction"] == row["target"] for row in rows]))
    by = {"mean": len(rows), "weighted_mean": loss["alpha_sum"], "sum": 1, "none": None}[reduction]
    assert loss["value"] == (None if by is None else pytest.approx(sum(x) / by))
    assert loss["reduction"] == reduction
    whole = told(runs, 4)["loss"]["value"]
    assert whole == (None if answered.loss is None else pytest.approx(runs_answer(runs, logits, targets), rel=1e-5))


def runs_answer(runs: Kept, logits: np.ndarray, targets: np.ndarray) -> float:
    """What `/loss` answers for the rows of epoch 4."""
    answered = runs.put(logits[10:], targets[10:], epoch=9)
    assert answered.loss is not None
    return answered.loss


def test_without_focus_the_loss_is_torchs_cross_entropy(runs: Kept) -> None:
    runs.make({"reduction": "weighted_mean"})
    logits, targets = noisy(150, 4, 2)
    runs.put(logits, targets)
    weights = (1.0, 0.25, 3.0, 2.0)
    found = told(runs, alpha=weights, gamma=0)
    wanted = cross_entropy(torch.tensor(logits).double(), torch.tensor(targets), torch.tensor(weights).double())
    assert found["loss"]["value"] == pytest.approx(wanted.item(), rel=1e-6)
    assert (found["alpha"], found["gamma"]) == (list(weights), 0)
    assert found["concentration"] == found["concentration_at_gamma_0"]
    assert found["class_pairs"] == told(runs)["class_pairs"]


def test_what_if_is_what_another_run_says(runs: Kept) -> None:
    logits, targets = noisy(150, 3, 2)
    runs.make({"alpha": [3, 1, 2], "gamma": 0.5})
    runs.make(run="other")
    for run in ("r", "other"):
        runs.put(logits, targets, run=run)
    own, what_if = told(runs), told(runs, run="other", alpha=(3, 1, 2), gamma=0.5)
    assert own | {"run": "other"} == what_if
    assert own["loss"]["sum"] != told(runs, run="other")["loss"]["sum"]
    gini = [told(runs, gamma=gamma)["concentration"]["gini"] for gamma in (0, 1, 2, 5)]
    assert gini == sorted(gini)
    assert len(set(gini)) == 4


def test_label_noise_is_that_of_cleanlab(runs: Kept) -> None:
    logits, targets = noisy(400, 4, 6)
    runs.make()
    runs.put(logits, targets)
    found = told(runs)
    p = torch.softmax(torch.tensor(logits).double(), 1).numpy()
    wanted = health_summary(targets, p, verbose=False)
    health = wanted["classes_by_label_quality"].sort_values("Class Index")
    for name in ("Label Noise", "Inverse Label Noise", "Label Quality Score", "Label Issues", "Inverse Label Issues"):
        key = {"Label Quality Score": "label_quality"}.get(name, name.lower().replace(" ", "_"))
        assert [row[key] for row in found["classes"]] == pytest.approx(health[name].tolist()), name
    assert set(found["classes"][0]) > NOISE
    errors = found["label_errors"]
    assert errors["health"] == pytest.approx(1 - errors["off_diagonal"] / 400)
    assert errors["estimated"] == errors["off_diagonal_calibrated"] > 0
    assert errors["share"] == errors["estimated"] / 400
    assert len(errors["thresholds"]) == 4
    assert len(found["class_pairs"]) == len(wanted["overlapping_classes"])


def test_a_run_without_examples(runs: Kept) -> None:
    runs.make(class_names=["a", "b"])
    found = told(runs)
    assert codes(found) == ["no_examples"]
    assert (found["num_examples"], found["epochs"], found["label_errors"], found["suggested_alpha"]) == (
        0,
        [],
        None,
        None,
    )
    assert found["loss"] == {
        "value": None, "reduction": "mean", "sum": 0, "alpha_sum": 0, "mean": None, "median": None, "max": None,
        "accuracy": None,
    }  # fmt: skip
    runs.make(run="ignored")
    runs.put([[0.0, 1.0]], [-100], run="ignored")
    found = told(runs, run="ignored")
    assert codes(found) == ["no_examples"]
    assert (found["num_ignored"], found["calibration"]["ece"], found["label_errors"]["share"]) == (1, None, None)
    assert found["label_errors"]["thresholds"] == [None, None]


def test_a_run_without_logits(runs: Kept) -> None:
    runs.make(store_logits=False)
    runs.put(*plain())
    found = told(runs)
    assert codes(found) == ["no_logits"]
    assert (found["label_errors"], found["calibration"], found["class_pairs"]) == (None, None, None)
    assert not NOISE & set(found["classes"][0])
    assert found["concentration"]["gini"] > 0


def test_plain_data_has_no_warning(runs: Kept) -> None:
    runs.make()
    runs.put(*plain())
    assert codes(told(runs)) == []


def _by_heart(runs: Kept, rows: int, wrong: int) -> None:
    # 15 of 16 sure: not over-confident.
    targets = np.arange(rows) % 2
    logits = np.eye(2, dtype=np.float32)[targets] * 3
    logits[:wrong] = logits[:wrong, ::-1]
    runs.make()
    runs.put(logits, targets)


Case = tuple[str, Callable[[Kept], Any], Callable[[Kept], Any]]
X, Y = plain()


def _one(runs: Kept, **run: Any) -> None:
    runs.make(**run)
    runs.put(X, Y)


def _epochs(runs: Kept, now: int, then: int) -> None:
    runs.make()
    runs.put(X[:now], Y[:now])
    runs.put(X[:then], Y[:then], epoch=1)


def _small(runs: Kept, number: int) -> None:
    runs.make()
    rows = np.concatenate([np.flatnonzero(Y < 2), np.flatnonzero(Y == 2)[:number]])
    runs.put(X[rows], Y[rows])


def _twice(runs: Kept, identity: str) -> None:
    _one(runs)
    runs.put(X[:1], Y[:1], [identity], batch="again")


def _sure(runs: Kept, factor: float) -> None:
    runs.make()
    runs.put(X * np.float32(factor), Y)


CASES: list[Case] = [
    ("in_sample", lambda runs: _by_heart(runs, 200, 1), lambda runs: _by_heart(runs, 200, 2)),
    ("in_sample", lambda runs: _by_heart(runs, 100, 0), lambda runs: _by_heart(runs, 99, 0)),
    ("partial_epoch", lambda runs: _epochs(runs, 299, 300), lambda runs: _epochs(runs, 300, 300)),
    ("partial_epoch", lambda runs: _epochs(runs, 200, 300), lambda runs: _epochs(runs, 300, 200)),
    ("small_classes", lambda runs: _small(runs, 9), lambda runs: _small(runs, 10)),
    ("duplicated_ids", lambda runs: _twice(runs, "e0000"), lambda runs: _twice(runs, "new")),
    ("no_logits", lambda runs: _one(runs, store_logits=False), lambda runs: _one(runs, store_logits=True)),
    (
        "class_weights",
        lambda runs: _one(runs, config={"alpha": [1, 2, 1]}),
        lambda runs: _one(runs, config={"alpha": [2, 2, 2]}),
    ),
    ("over_confident", lambda runs: _sure(runs, 3), lambda runs: _sure(runs, 0.9)),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{code}" for number, (code, *_) in enumerate(CASES)])
def test_a_warning_is_there_exactly_where_it_is_due(case: Case) -> None:
    code, due, not_due = case
    for make, wanted in ((due, True), (not_due, False)):
        with kept() as runs:
            make(runs)
            found = codes(told(runs))
        assert (code in found) is wanted, found
        if code not in ("in_sample",):
            assert set(found) <= {code}


def test_warnings_name_their_numbers(runs: Kept) -> None:
    runs.make({"alpha": [1, 2] + [1] * 28}, class_names=[f"k{label}" for label in range(30)])
    logits = np.zeros((12, 30), dtype=np.float32)
    runs.put(logits, [0] * 11 + [1])
    runs.put(logits, [0] * 12, epoch=1)
    runs.put(logits[:1], [0], epoch=1, batch="more")
    found = {one["code"]: one["message"] for one in told(runs)["warnings"]}
    assert "Epoch 0 has 12 of the 13 examples" in found["partial_epoch"]
    assert "k1 (1), k2 (0)" in found["small_classes"]
    assert "and 19 more" in found["small_classes"]
    assert "1 rows of epoch 1" in {one["code"]: one["message"] for one in told(runs, 1)["warnings"]}["duplicated_ids"]


def test_some_fields_are_those_of_the_whole(runs: Kept) -> None:
    runs.make()
    runs.put(*plain())
    whole = told(runs)
    for field in FIELDS:
        found = runs.ask(lambda view, field=field: diagnostics(view, view.weighting(), 0, [field]))
        assert_is(Diagnostics, found)
        assert set(found) == set(KEYS) - set(FIELDS) | {field}
        assert found[field] == whole[field]
    with pytest.raises(InvalidRequestError, match="unknown field 'histograms'; known are num_duplicates, loss"):
        runs.ask(lambda view: diagnostics(view, view.weighting(), 0, ["loss", "histograms"]))


def test_a_field_is_computed_once_for_the_same_rows_and_loss(runs: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(view: View, weighting: Weighting, epoch: int) -> dict[str, Any]:
        asked.append((weighting.gamma, epoch))
        return histogram(view, weighting, epoch)

    monkeypatch.setattr(summary, "histogram", counted)
    runs.make()
    runs.put(*plain())
    assert told(runs) == told(runs)
    told(runs, gamma=0.5)
    assert asked == [(2.0, 0), (0.5, 0)]
    # Merged files hold the same rows; a further batch does not.
    runs.put(*plain(30, 2), [f"n{row}" for row in range(30)], batch="more")
    assert told(runs)["histogram"]["counts"] != []
    runs.merge(0)
    told(runs)
    assert asked[2:] == [(2.0, 0)]
