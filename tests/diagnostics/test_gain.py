"""The gain between two runs against plain numpy, scipy's bootstrap and the diagnostics' own calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from service.diagnostics.calibration import calibration
from service.diagnostics.chunks import Chunk
from service.diagnostics.gain import gain
from service.errors import InvalidRequestError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import ReviewHistory
from service.schema.replies.gain import Gain, GainUnderLabels, Metrics
from tests.replies import assert_is
from tests.runs.temp_runs import TempRuns, temp_runs

EXAMPLES, CLASSES = 400, 4
FOCAL = Weighting((1.0, 2.0, 0.5, 1.5), 2.0)
Reviews = list[dict[str, Any]]


class Data:
    """Two models: the second one is better, and does not have some of the examples."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.true = rng.integers(0, CLASSES, EXAMPLES)
        self.given = np.where(rng.random(EXAMPLES) < 0.15, (self.true + 1) % CLASSES, self.true)
        noise = rng.standard_normal((2, EXAMPLES, CLASSES))
        self.logits = (noise + np.array([1.5, 2.5])[:, None, None] * np.eye(CLASSES)[self.true]).astype(np.float32)
        self.ids = [f"e{row:03}" for row in range(EXAMPLES)]
        self.common = np.arange(EXAMPLES) < 380

    def reviews(self, rows: np.ndarray) -> Reviews:
        """Right verdicts on some rows."""
        return [
            review(self.ids[row], "wrong", int(self.true[row]))
            if self.given[row] != self.true[row]
            else review(self.ids[row], "ok")
            for row in rows.tolist()
        ]


def review(identity: str, verdict: str, label: int | None = None, reviewer: str | None = None) -> dict[str, Any]:
    members = {"queue": None, "comment": None, "at": "2026-01-01T00:00:00+00:00", "reviewer": reviewer}
    return {"id": identity, "verdict": verdict, "label": label, **members}


@pytest.fixture
def data() -> Data:
    return Data()


@pytest.fixture
def runs(data: Data) -> Iterator[TempRuns]:
    with temp_runs() as store:
        for run in ("a", "b"):
            store.create(run=run)
        store.put(data.logits[0], data.given, data.ids, run="a")
        common = data.common
        store.put(data.logits[1][common], data.given[common], data.ids[:380], run="b")
        yield store


def history(reviews: Reviews) -> ReviewHistory:
    told = [{**one, "review": f"{number:05}"} for number, one in enumerate(reviews)]
    return ReviewHistory([]).extended([("list", told)])  # type: ignore[list-item]


def gain_of(
    runs: TempRuns,
    before: Reviews = [],  # noqa: B006
    after: Reviews = [],  # noqa: B006
    names: tuple[str, str] = ("a", "b"),
    weighting: Weighting = FOCAL,
) -> Gain:
    def question(view: View) -> Gain:
        verdicts = history(before).verdicts_of(0), history(after).verdicts_of(0)
        return gain((view, view.of(runs.store.snapshot(names[1]))), weighting, (0, 0), verdicts)

    result = runs.ask(question, names[0])
    assert_is(Gain, result)
    return result


def losses(logits: np.ndarray, labels: np.ndarray, weighting: Weighting) -> np.ndarray:
    """The paper's formula in float64."""
    p = np.exp(logits.astype(np.float64))
    p_t = (p / p.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    alpha = np.ones(len(labels)) if weighting.alpha is None else np.array(weighting.alpha)[labels]
    return -alpha * (1 - p_t) ** weighting.gamma * np.log(p_t)


def check_metrics(metrics: Metrics, logits: np.ndarray, labels: np.ndarray, weighting: Weighting = FOCAL) -> None:
    hits = logits.argmax(axis=1) == labels
    loss = losses(logits, labels, weighting)
    assert metrics["accuracy"]["value"] == pytest.approx(hits.mean())
    assert metrics["loss"]["value"] == pytest.approx(loss.mean(), rel=2e-6)
    expected = calibration(lambda: [Chunk(labels.astype(np.int64), logits)])["ece"]
    assert metrics["ece"]["value"] == pytest.approx(expected, abs=1e-6)
    for name, values in (("accuracy", hits.astype(float)), ("loss", loss)):
        interval = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
        width = interval.high - interval.low
        ends = metrics[name]["low"], metrics[name]["high"]  # type: ignore[literal-required]
        assert ends == pytest.approx((interval.low, interval.high), abs=0.1 * width)
    assert metrics["ece"]["low"] <= metrics["ece"]["value"]


def check_labels(result: GainUnderLabels, logits: np.ndarray, labels: np.ndarray) -> None:
    check_metrics(result["before"], logits[0], labels)
    check_metrics(result["after"], logits[1], labels)
    first, second = (scores.argmax(axis=1) == labels for scores in logits)
    difference = result["difference"]["accuracy"]
    assert difference["value"] == pytest.approx(second.mean() - first.mean())
    paired = bootstrap((second * 1.0 - first,), np.mean, n_resamples=2000, method="percentile", rng=0)
    width = paired.confidence_interval.high - paired.confidence_interval.low
    expected = paired.confidence_interval.low, paired.confidence_interval.high
    assert (difference["low"], difference["high"]) == pytest.approx(expected, abs=0.1 * width)
    only = int((first & ~second).sum()), int((second & ~first).sum())
    assert (result["mcnemar"]["only_before"], result["mcnemar"]["only_after"]) == only
    assert result["mcnemar"]["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)


def test_given_and_corrected_labels(runs: TempRuns, data: Data) -> None:
    result = gain_of(runs, before=data.reviews(np.arange(300)))
    corrected = np.where(np.arange(EXAMPLES) < 300, data.true, data.given)
    logits = data.logits[:, data.common]
    check_labels(result["given"], logits, data.given[data.common])
    check_labels(result["corrected"], logits, corrected[data.common])
    assert (result["num_common"], result["num_compared"], result["num_reviewed"]) == (380, 380, 300)
    assert result["num_corrected"] == (corrected != data.given)[data.common].sum()
    assert (result["before"]["num_examples"], result["after"]["num_examples"]) == (400, 380)
    assert result["notes"] == []
    for row in result["classes"]:
        of_class = corrected[data.common] == row["class"]
        first, second = (scores[of_class].argmax(axis=1) == row["class"] for scores in logits)
        assert row["count"] == of_class.sum()
        assert (row["accuracy_before"], row["accuracy_after"]) == pytest.approx((first.mean(), second.mean()))
        assert (row["only_before"], row["only_after"]) == ((first & ~second).sum(), (second & ~first).sum())
    assert sum(row["count"] for row in result["classes"]) == 380


@pytest.mark.slow
def test_one_model_under_both_labels(runs: TempRuns, data: Data) -> None:
    result = gain_of(runs, before=data.reviews(np.arange(EXAMPLES)), after=[], names=("a", "a"))
    check_metrics(result["corrected"]["after"], data.logits[0], data.true)
    change, difference = result["change_before"]["accuracy"], result["corrected"]["difference"]["accuracy"]
    hits = [data.logits[0].argmax(axis=1) == labels for labels in (data.given, data.true)]
    assert change["value"] == pytest.approx(hits[1].mean() - hits[0].mean())
    assert 0 < change["low"] < change["value"] < change["high"]
    assert difference == {"value": 0, "low": 0, "high": 0}
    assert result["corrected"]["mcnemar"] == {"only_before": 0, "only_after": 0, "p": 1.0}


def test_examples_without_a_known_label_are_left_out_of_both_labels(runs: TempRuns, data: Data) -> None:
    before = [
        review("e000", "exclude"),
        review("e001", "ok", reviewer="ann"),
        review("e001", "wrong", 1, reviewer="ben"),
        review("e002", "wrong"),
        review("e003", "unsure"),
        review("e399", "exclude"),
    ]
    result = gain_of(runs, before=before)
    assert result["left_out"] == {"excluded": 1, "conflict": 1, "wrong_without_label": 1}
    assert (result["num_common"], result["num_compared"], result["num_reviewed"]) == (380, 377, 0)
    check_labels(result["given"], data.logits[:, 3:380], data.given[3:380])


def test_verdicts_of_the_second_run_win(runs: TempRuns, data: Data) -> None:
    other = int((data.given[0] + 1) % CLASSES)
    first, second = review("e000", "wrong", other), review("e000", "ok")
    assert gain_of(runs, before=[first])["num_corrected"] == 1
    assert gain_of(runs, before=[first], after=[second])["num_corrected"] == 0
    assert gain_of(runs, before=[first], after=[review("e000", "unsure")])["num_corrected"] == 1


@pytest.mark.slow
def test_labels_that_the_second_run_has_changed(runs: TempRuns, data: Data) -> None:
    """Both models are measured with the given labels of the first run, then with the labels of the second one."""
    runs.create(run="c")
    runs.put(data.logits[1], data.true, data.ids, run="c")
    result = gain_of(runs, names=("a", "c"))
    check_labels(result["given"], data.logits, data.given)
    check_labels(result["corrected"], data.logits, data.true)
    # The verdict ok is about the label of its own run.
    row = int(np.flatnonzero(data.given != data.true)[0])
    kept = gain_of(runs, before=[review(data.ids[row], "ok")], names=("a", "c"))
    assert kept["num_corrected"] == result["num_corrected"] - 1


def test_without_logits_the_loss_under_other_labels_is_unknown(runs: TempRuns, data: Data) -> None:
    runs.create(run="d", store_logits=False)
    runs.put(data.logits[1], data.given, data.ids, run="d")
    same = gain_of(runs, names=("a", "d"))
    check_labels(same["given"], data.logits, data.given)
    assert same["notes"] == []
    result = gain_of(runs, before=data.reviews(np.arange(300)), names=("a", "d"))
    assert result["corrected"]["after"]["loss"] == {"value": None, "low": None, "high": None}
    assert result["corrected"]["difference"]["loss"]["value"] is None
    assert result["corrected"]["before"]["loss"]["value"] > 0
    assert result["corrected"]["after"]["accuracy"]["value"] > result["given"]["after"]["accuracy"]["value"]
    (note,) = result["notes"]
    assert f"run d has no logits of {result['num_corrected']} examples" in note


def test_no_common_example(runs: TempRuns, data: Data) -> None:
    runs.create(run="e")
    runs.put(data.logits[0][:5], data.given[:5], ["v", "w", "x", "y", "z"], run="e")
    result = gain_of(runs, names=("a", "e"))
    assert (result["num_common"], result["classes"]) == (0, [])
    assert result["given"]["before"]["accuracy"] == {"value": None, "low": None, "high": None}


@pytest.mark.slow
def test_many_examples_in_groups() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 6000)
    logits = rng.standard_normal((6000, 2)) + 1.5 * np.eye(2)[true]
    with temp_runs() as runs:
        runs.create(run="a")
        runs.put(logits, true, [str(row) for row in range(6000)], run="a")
        result = gain_of(runs, names=("a", "a"), weighting=Weighting(None, 1.0))
    check_metrics(result["given"]["before"], logits.astype(np.float32), true, Weighting(None, 1.0))


def test_runs_that_cannot_be_compared(runs: TempRuns, data: Data) -> None:
    runs.create(run="two")
    runs.put(data.logits[0][:, :2], data.given % 2, data.ids, run="two")
    with pytest.raises(InvalidRequestError, match="runs a and two have different classes"):
        gain_of(runs, names=("a", "two"), weighting=Weighting(None, 2.0))
    for run, names in (("x", list("abcd")), ("y", list("dcba"))):
        runs.create(run=run, class_names=names)
    with pytest.raises(InvalidRequestError, match="different classes"):
        gain_of(runs, names=("x", "y"))
    runs.create({"mode": "sigmoid"}, run="labels", task="multi_label")
    with pytest.raises(InvalidRequestError, match="run labels has the task multi_label"):
        gain_of(runs, names=("labels", "labels"))
