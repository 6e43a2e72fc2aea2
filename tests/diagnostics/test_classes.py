"""Class table, confusion matrix and suggested weights against sklearn and numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from service.diagnostics.classes import LARGEST_CONFUSIONS, class_table, confusion, suggested_alpha
from service.queries.weighting import Weighting
from service.schema.replies.diagnostics import ClassStatistics
from tests.runs.temp_runs import TempRuns, noisy, scored, temp_runs

FOCAL = Weighting((1.0, 2.0, 0.0, 3.0, 1.0), 1.0)


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    """Two epochs; five classes; class 4 has no examples, class 2 the weight 0."""
    with temp_runs() as store:
        store.create(class_names=list("abcde"))
        for epoch in (0, 1):
            logits, targets = noisy(300, 5, epoch)
            store.put(logits[:200], targets[:200] % 4, epoch=epoch)
            store.put(logits[200:], targets[200:] % 4, epoch=epoch, batch="c")
        yield store


def table(runs: TempRuns, weighting: Weighting = FOCAL, epoch: int = 0) -> list[ClassStatistics]:
    return runs.ask(lambda view: class_table(view, weighting, epoch))


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_table_of_classes(runs: TempRuns, epoch: int) -> None:
    rows = scored(runs.counted(epoch=epoch), FOCAL.alpha, FOCAL.gamma)
    targets, predictions = ([row[name] for row in rows] for name in ("target", "prediction"))
    recalls = recall_score(targets, predictions, labels=range(4), average=None)
    result, total = table(runs, epoch=epoch), sum(row["loss"] for row in rows)
    assert [(row["class"], row["name"]) for row in result] == list(enumerate("abcde"))
    for row in result[:4]:
        label = row["class"]
        losses = [row["loss"] for row in rows if row["target"] == label]
        others = Counter(row["prediction"] for row in rows if row["target"] == label and row["prediction"] != label)
        worst = min(others, key=lambda k: (-others[k], k))
        assert (row["count"], row["predicted"]) == (len(losses), predictions.count(label))
        assert row["loss_sum"] == pytest.approx(sum(losses))
        assert row["mean_loss"] == pytest.approx(sum(losses) / len(losses))
        assert row["loss_share"] == pytest.approx(sum(losses) / total)
        assert row["recall"] == pytest.approx(recalls[label])
        assert row["most_confused"] == {"class": worst, "count": others[worst]}
    assert result[2]["loss_sum"] == 0
    assert result[4] == {
        "class": 4,
        "name": "e",
        "count": 0,
        "loss_sum": 0,
        "loss_share": 0,
        "mean_loss": None,
        "recall": None,
        "predicted": predictions.count(4),
        "most_confused": None,
    }
    orjson.dumps(result)


def test_ties_of_confusions_go_to_the_smaller_class() -> None:
    with temp_runs() as runs:
        runs.create()
        runs.put(np.eye(3)[[2, 1, 0, 2, 1]], [0, 0, 0, 1, 2])
        result = table(runs, Weighting(None, 2.0))
        assert [row["most_confused"] for row in result] == [
            {"class": 1, "count": 1},
            {"class": 2, "count": 1},
            {"class": 1, "count": 1},
        ]
        largest = runs.ask(lambda view: confusion(view, 0))["largest"]
    assert [(cell["target"], cell["prediction"], cell["count"]) for cell in largest] == [
        (0, 1, 1),
        (0, 2, 1),
        (1, 2, 1),
        (2, 1, 1),
    ]


def test_a_table_without_loss_and_a_table_without_examples() -> None:
    with temp_runs() as runs:
        runs.create(class_names=["a", "b"])
        empty = table(runs, Weighting(None, 2.0))
        assert [(row["count"], row["loss_share"], row["recall"]) for row in empty] == [(0, None, None)] * 2
        assert runs.ask(lambda view: confusion(view, 0)) == {"matrix": [[0, 0], [0, 0]], "largest": []}
        runs.put([[0.0, 1.0]], [0])
        assert [row["loss_share"] for row in table(runs, Weighting((0.0, 1.0), 2.0))] == [None, None]
        runs.create(run="unknown")
        assert runs.ask(lambda view: class_table(view, Weighting(None, 2.0), 0), "unknown") == []


@pytest.mark.parametrize("classes", [2, 5, 30, 201])
def test_the_matrix_equals_that_of_sklearn_and_the_largest_cells_are_listed(classes: int) -> None:
    logits, targets = noisy(900, classes, classes, spread=1)
    with temp_runs() as runs:
        runs.create()
        runs.put(logits, targets)
        result = runs.ask(lambda view: confusion(view, 0))
    expected = confusion_matrix(targets, logits.argmax(1), labels=range(classes))
    assert result["matrix"] == (expected.tolist() if classes <= 200 else None)
    cells = [(-expected[i, j], i, j) for i in range(classes) for j in range(classes) if i != j and expected[i, j]]
    largest = [(-cell["count"], cell["target"], cell["prediction"]) for cell in result["largest"]]
    assert largest == sorted(cells)[:LARGEST_CONFUSIONS]
    assert len(largest) <= LARGEST_CONFUSIONS


def test_suggested_weights_equal_those_of_the_formulas() -> None:
    counts = np.array([900.0, 90.0, 10.0, 1.0])
    result = suggested_alpha([int(count) for count in counts])
    assert result is not None
    np.testing.assert_allclose(result["inverse"], counts.sum() / counts, rtol=1e-14)
    effective = (1 - 0.999) / (1 - 0.999**counts)
    np.testing.assert_allclose(result["effective"], effective / effective.sum() * 4, rtol=1e-10)
    assert suggested_alpha([5, 0]) is None
    assert suggested_alpha([5]) is None
    assert suggested_alpha([]) is None
