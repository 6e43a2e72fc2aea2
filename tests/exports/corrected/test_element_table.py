"""The corrected data sets of runs of labels, tokens and masks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.client import LossClient, RunClient
from service.errors import InvalidRequestError
from tests.lanes import mostly_slow

TAGS = ["O", "B-PER", "I-PER", "LOC"]
SENTENCES = {"s1": [0, 0, 0, 3], "s2": [1, -100], "s3": [0, 0], "s4": [3, 3, 3]}


@pytest.fixture
def tokens(loss_client: LossClient) -> Iterator[RunClient]:
    run = loss_client.put_run("tokens", task="tokens", class_names=TAGS)
    logits = [np.eye(4)[[max(0, label) for label in labels]] for labels in SENTENCES.values()]
    texts = [[f"word{place}" for place in range(len(labels))] for labels in SENTENCES.values()]
    offsets = np.cumsum([0, *map(len, SENTENCES.values())])
    flat = np.concatenate([*SENTENCES.values()])
    batch = {"logits": np.concatenate(logits), "targets": flat, "offsets": offsets, "ids": list(SENTENCES)}
    run.push(0, "b", batch, attributes={"tokens": texts})
    yield run
    run.delete()


def rows_of(run: RunClient, **options: Any) -> dict[str, dict[str, Any]]:
    content = run.corrected(format="jsonl", **options)
    return {row["id"]: row for row in map(json.loads, content.splitlines())}


def test_spans_of_tokens_are_corrected(tokens: RunClient) -> None:
    tokens.review(
        [
            {"id": "s1", "unit": [1, 3], "verdict": "wrong", "label": "B-PER", "reviewer": "ada", "comment": "a name"},
            {"id": "s1", "unit": [3, 4], "verdict": "ok"},
            {"id": "s2", "unit": [0, 2], "verdict": "wrong", "label": "LOC"},
            {"id": "s3", "unit": [1, 2], "verdict": "wrong"},
        ]
    )
    rows = rows_of(tokens)
    assert list(rows) == list(SENTENCES)
    assert {name: (row["label"], row["label_index"], row["status"]) for name, row in rows.items()} == {
        "s1": (["O", "B-PER", "I-PER", "LOC"], [0, 1, 2, 3], "corrected"),
        "s2": (["LOC", None], [3, None], "corrected"),
        "s3": (["O", None], [0, None], "unsure"),
        "s4": (["LOC"] * 3, [3] * 3, "unreviewed"),
    }
    assert [row["given_label_index"] for row in rows.values()] == [[0, 0, 0, 3], [1, None], [0, 0], [3, 3, 3]]
    assert rows["s2"]["given_label"] == ["B-PER", None]
    assert (rows["s1"]["reviewers"], rows["s1"]["comment"]) == (["ada"], "a name")
    assert rows["s2"]["tokens"] == ["word0", "word1"]


@pytest.mark.parametrize(
    ("reviews", "label", "status"),
    [
        ([{"verdict": "ok"}], [0, 0, 0, 3], "kept"),
        ([{"verdict": "exclude"}], None, "excluded"),
        ([{"verdict": "wrong"}], None, "unsure"),
        ([{"verdict": "wrong"}, {"unit": [0, 1], "verdict": "wrong", "label": 3}], [3, 0, 0, 3], "corrected"),
        ([{"verdict": "ok", "reviewer": "a"}, {"verdict": "wrong", "reviewer": "b"}], None, "conflict"),
        ([{"verdict": "ok"}, {"unit": [0, 1], "verdict": "unsure"}], [None, 0, 0, 3], "unsure"),
        (
            [{"unit": [0, 1], "verdict": "ok", "reviewer": "a"}, {"unit": [0, 1], "verdict": "wrong", "reviewer": "b"}],
            [None, 0, 0, 3],
            "conflict",
        ),
        ([{"unit": [3, 4], "verdict": "wrong", "label": 3}], [0, 0, 0, 3], "kept"),
        (
            [{"unit": [0, 2], "verdict": "wrong", "label": 2}, {"unit": [1, 3], "verdict": "wrong", "label": 3}],
            [2, 3, 3, 3],
            "corrected",
        ),
    ],
)
def test_the_status_of_a_sentence_is_the_first_of_its_verdicts(
    tokens: RunClient, reviews: list[dict[str, Any]], label: list[int | None] | None, status: str
) -> None:
    tokens.review([{"id": "s1", **review} for review in reviews])
    row = rows_of(tokens)["s1"]
    assert (row["label_index"], row["status"]) == (label, status)
    assert row["label"] == (None if label is None else [None if tag is None else TAGS[tag] for tag in label])


def test_other_formats_have_the_same_lists(tokens: RunClient) -> None:
    tokens.review([{"id": "s1", "unit": [1, 2], "verdict": "wrong", "label": 3}, {"id": "s4", "verdict": "exclude"}])
    expected = list(rows_of(tokens).values())
    assert pq.read_table(io.BytesIO(tokens.corrected(format="parquet"))).to_pylist() == expected
    assert pa.ipc.open_file(tokens.corrected(format="arrow")).read_all().to_pylist() == expected
    rows = csv.DictReader(io.StringIO(tokens.corrected(format="csv").decode(), newline=""))
    names = ("tokens", "label", "label_index", "given_label")
    assert [[json.loads(row[name] or "null") for name in names] for row in rows] == [
        [row[name] for name in names] for row in expected
    ]
    with pytest.raises(InvalidRequestError, match="label-studio has no corrected labels of the task tokens"):
        tokens.corrected(format="label-studio")


def test_labels_of_several_are_corrected_one_by_one(loss_client: LossClient) -> None:
    names = ["beach", "dog", "snow"]
    run = loss_client.put_run("labels", task="multi_label", config={"mode": "sigmoid"}, class_names=names)
    targets = [[1, 0, 0], [0, 1, -100], [0, 0, 0]]
    run.push(0, "b", {"logits": np.ones((3, 3)), "targets": targets, "ids": ["a", "b", "c"]})
    run.review(
        [
            {"id": "a", "unit": "dog", "verdict": "wrong"},
            {"id": "a", "unit": "snow", "verdict": "ok"},
            {"id": "b", "unit": "beach", "verdict": "unsure"},
        ]
    )
    rows = rows_of(run)
    assert [(row["label"], row["label_index"], row["status"]) for row in rows.values()] == [
        (["beach", "dog"], [1, 1, 0], "corrected"),
        (["dog"], [None, 1, None], "unsure"),
        ([], [0, 0, 0], "unreviewed"),
    ]
    assert [row["given_label"] for row in rows.values()] == [["beach"], ["dog"], []]


def test_regions_of_masks_are_corrected_in_the_epoch_of_the_verdict(loss_client: LossClient) -> None:
    run = loss_client.put_run("masks", task="masks")
    given = np.zeros((2, 3, 4), np.int64)
    predicted = given.copy()
    predicted[0, 0, :2], predicted[0, 2, 3], predicted[1, 1, 1] = 1, 2, 2
    for epoch in range(2):
        # In the second epoch there is one region less before that of pixel (2, 3).
        logits = np.moveaxis(4 * np.eye(3)[predicted if epoch == 0 else np.where(predicted == 1, 0, predicted)], 3, 1)
        run.push(epoch, "b", {"logits": logits, "targets": given, "ids": ["a", "b"]})
    run.create_queue("top_loss", 5, name="first", epoch=0)
    run.review([{"id": "a", "unit": 0, "verdict": "wrong", "label": 1, "queue": "first"}])
    run.review([{"id": "a", "unit": 0, "verdict": "wrong", "label": 2}])
    rows = rows_of(run)
    assert np.array_equal(rows["a"]["label"], predicted[0])
    assert [row["status"] for row in rows.values()] == ["corrected", "unreviewed"]
    assert rows["b"]["label"] == rows["b"]["given_label"] == given[1].tolist()
    assert "label_index" not in rows["a"]


def test_a_sentence_of_several_epochs_has_the_labels_that_were_sent_last(tokens: RunClient) -> None:
    for epoch, labels in ((1, [2, 2]), (2, [3, 3])):
        tokens.push(epoch, "b", {"logits": np.zeros((2, 4)), "targets": labels, "offsets": [0, 2], "ids": ["s2"]})
    rows = rows_of(tokens)
    assert [row["given_label_index"] for row in rows.values()] == [[0, 0, 0, 3], [3, 3], [0, 0], [3, 3, 3]]
    assert rows["s2"]["tokens"] == ["word0", "word1"]


@pytest.mark.parametrize("name", mostly_slow(["csv", "jsonl", "parquet", "arrow"], quick=1))
@pytest.mark.parametrize("task", ["multi_label", "tokens", "masks"])
def test_a_run_without_examples_has_a_file_without_rows(loss_client: LossClient, task: str, name: str) -> None:
    config = {"mode": "sigmoid"} if task == "multi_label" else {}
    run = loss_client.put_run(f"no-{task}", task=task, config=config, class_names=["a", "b"])
    content = run.corrected(format=name)
    assert content.count(b"\n") == {"csv": 1, "jsonl": 0}.get(name, content.count(b"\n"))
    if name == "parquet":
        assert len(pq.read_table(io.BytesIO(content))) == 0


def test_masks_of_different_axes_are_refused(loss_client: LossClient) -> None:
    run = loss_client.put_run("axes", task="masks")
    for batch, shape in enumerate([(2, 2), (2, 2, 2)]):
        targets = np.zeros((1, *shape), np.int64)
        run.push(0, f"b{batch}", {"logits": np.zeros((1, 2, *shape)), "targets": targets, "ids": [str(batch)]})
    with pytest.raises(InvalidRequestError, match="2 and 3 axes"):
        run.corrected()


def test_a_histogram_has_no_corrected_mask(loss_client: LossClient) -> None:
    run = loss_client.put_run("histograms", task="masks")
    batch = {"logits": np.zeros((1, 2, 3, 3)), "targets": np.zeros((1, 3, 3), np.int64), "ids": ["a"]}
    run.push(0, "b", batch, reduce="histogram")
    with pytest.raises(InvalidRequestError, match="sent as a histogram"):
        run.corrected()
