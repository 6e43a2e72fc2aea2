"""The consensus of an epoch of a run: rows in several batches, repeated ids, epochs, two classes, reviewers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest

from service.diagnostics.annotators.run_consensus import RunConsensus, run_consensus
from service.diagnostics.annotators.run_labels import ReviewerLabel, epoch_labels
from service.errors import RunDamagedError
from service.runs.annotation_files import SCHEMA
from tests.diagnostics.annotators.crowds import Crowd, random_crowd
from tests.runs.temp_runs import TempRuns, temp_runs

EXAMPLES = 40
CROWD = random_crowd(11, EXAMPLES, 5, 3, 0.4)


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """Epoch 0 has all examples, in two batches, some of them twice; epoch 1 lacks the last ten."""
    with temp_runs() as temp:
        temp.create()
        logits, targets = np.log(CROWD.p).astype(np.float32), np.zeros(EXAMPLES, np.int64)
        temp.put(logits[::-1][:25], targets[:25], ids(EXAMPLES)[::-1][:25], batch="a")
        temp.put(logits[:20], targets[:20], ids(20), batch="b")
        temp.put(logits[:30] * 2, targets[:30], ids(30), epoch=1)
        annotate(temp, CROWD)
        yield temp


def ids(number: int) -> list[str]:
    return [f"e{place}" for place in range(number)]


def annotate(runs: TempRuns, crowd: Crowd, run: str = "r") -> None:
    rows = [
        {"id": f"e{example}", "annotator": f"a{annotator}", "label": int(crowd.labels[example, annotator])}
        for example, annotator in np.argwhere(~np.isnan(crowd.labels))
    ]
    runs.store.append_annotations(runs.store.snapshot(run), lambda _: pa.Table.from_pylist(rows, SCHEMA))


def consensus(runs: TempRuns, epoch: int, run: str = "r") -> RunConsensus:
    return runs.ask(lambda view: run_consensus(view, epoch), run)


def in_order(found: RunConsensus, name: str, number: int) -> list[float]:
    """A column of the annotated examples in the order of the crowd."""
    by_id = dict(zip(found.table["id"].to_pylist(), found.table[name].to_pylist(), strict=True))
    assert len(by_id) == number
    values = [by_id[identity] for identity in ids(number)]
    return [value for value in values if value is not None]


@pytest.mark.parametrize(("epoch", "number", "power"), [(0, EXAMPLES, 1), (1, 30, 2)])
def test_each_epoch_equals_cleanlab_on_its_examples(runs: TempRuns, epoch: int, number: int, power: int) -> None:
    found = consensus(runs, epoch)
    p = CROWD.p[:number] ** power
    crowd = Crowd(CROWD.labels[:number], p / p.sum(axis=1, keepdims=True))
    expected = crowd.cleanlab()
    examples, people = expected["label_quality"], expected["annotator_stats"]
    assert in_order(found, "consensus", number) == examples["consensus_label"].tolist()
    # The run has logits in float32.
    np.testing.assert_allclose(in_order(found, "quality", number), examples["consensus_quality_score"], atol=1e-6)
    np.testing.assert_allclose(in_order(found, "active_lab", number), crowd.cleanlab_active_lab(), atol=1e-6)
    assert [one["annotator"] for one in found.summary["annotators"]] == [f"a{place}" for place in people.index]
    assert found.summary["num_unknown"] == np.count_nonzero(~np.isnan(CROWD.labels[number:]))


def test_two_classes_with_one_logit(runs: TempRuns) -> None:
    crowd = random_crowd(5, 20, 3, 2, 0.8)
    runs.create({"mode": "sigmoid"}, "sigmoid")
    logits = np.log(crowd.p[:, 1] / crowd.p[:, 0]).astype(np.float32)
    runs.put(logits, np.zeros(20, np.int64), ids(20), run="sigmoid")
    annotate(runs, crowd, "sigmoid")
    found = consensus(runs, 0, "sigmoid")
    expected = crowd.cleanlab()["label_quality"]["consensus_quality_score"]
    np.testing.assert_allclose(in_order(found, "quality", 20), expected, atol=1e-6)


def test_a_run_without_rows_has_an_empty_consensus(runs: TempRuns) -> None:
    runs.create(run="empty")
    found = consensus(runs, 0, "empty")
    assert len(found.table) == 0
    assert found.summary == {"num_unknown": 0, "model_weight": None, "annotators": []}


def test_a_stored_label_that_is_no_class_is_damage(runs: TempRuns) -> None:
    runs.create(run="damaged")
    runs.put(np.zeros((2, 2)), [0, 1], ids(2), run="damaged")
    snapshot = runs.store.snapshot("damaged")
    rows = [{"id": "e0", "annotator": "k", "label": 2}]
    runs.store.append_annotations(snapshot, lambda _: pa.Table.from_pylist(rows, SCHEMA))
    with pytest.raises(RunDamagedError, match="annotations has label 2; the run has 2 classes"):
        consensus(runs, 0, "damaged")


@pytest.mark.parametrize(
    ("reviewers", "expected", "num_unknown"),
    [
        (None, {("a", "kim"): 0, ("b", "lee"): 1}, 1),
        ([], {("a", "kim"): 0, ("b", "lee"): 1}, 1),
        # The given label; a label that replaces an annotation; a reviewer without a name; an example of no row.
        ([("a", "noa", None)], {("a", "kim"): 0, ("b", "lee"): 1, ("a", "noa"): 2}, 1),
        ([("a", "kim", 1)], {("a", "kim"): 1, ("b", "lee"): 1}, 1),
        ([("b", "", 0)], {("a", "kim"): 0, ("b", "lee"): 1, ("b", ""): 0}, 1),
        ([("y", "noa", None)], {("a", "kim"): 0, ("b", "lee"): 1}, 2),
    ],
)
def test_labels_of_reviewers(
    reviewers: Sequence[ReviewerLabel] | None, expected: dict[tuple[str, str], int], num_unknown: int
) -> None:
    rows = pa.table({"id": ["a", "b"], "target": pa.array([2, 0], pa.int32())})
    stored = [("a", "kim", 0), ("b", "lee", 1), ("x", "mia", 2)]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in stored], SCHEMA)
    found = epoch_labels(rows, table, reviewers, 3)
    annotations = found.annotations
    columns = (annotations.examples, annotations.annotators, annotations.labels)
    labels = {
        ("ab"[row], found.names[who]): label for row, who, label in zip(*map(np.ndarray.tolist, columns), strict=True)
    }
    assert labels == expected
    assert found.num_unknown == num_unknown
    assert annotations.num_annotators == len(found.names) == len({who for _, who in expected})
