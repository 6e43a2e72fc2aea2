"""Pushing labels, tokens and masks: the layout of the run's task, nested lists, and statistics in place of logits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.client import LossClient, RunClient, RunRecorder
from service.errors import InvalidRequestError, InvalidTargetError, LayoutNotStoredError, NeedsLogitsError, ShapeError
from service.schema.request import STATISTICS
from service.schema.structure import Task
from tests.strategies import at_most

CLASSES, EXAMPLES, IGNORED = 3, 6, 255
LOGITS, TARGETS = np.array([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9], [0.0, 1.0, 0.5]]), np.array([0, 1, 2])
IDS = [f"e{row}" for row in range(EXAMPLES)]
CASES: list[tuple[Task, str]] = [
    ("multi_label", "sigmoid"),
    ("tokens", "softmax"),
    ("tokens", "sigmoid"),
    ("masks", "softmax"),
    ("masks", "sigmoid"),
]
SCORES = ("loss", "cross_entropy", "log_odds", "logit_margin", "entropy", "el2n", "label_quality", "loss_sum")
COUNTS = ("num_valid", "num_wrong", "num_units")


def parts_of(task: Task, mode: str, seed: int) -> dict[str, Any]:
    """Logits, targets, and of tokens offsets, of EXAMPLES examples, of which the first tokens are none."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0, 0], np.cumsum(rng.integers(1, 6, EXAMPLES - 1))])
    shape = {"multi_label": (EXAMPLES, 4), "tokens": (int(offsets[-1]),), "masks": (EXAMPLES, 4, 5)}[task]
    classes = (CLASSES,) if mode == "softmax" else ()
    logits = rng.normal(0, 3, (shape[0], *classes, *shape[1:])).astype(np.float32)
    targets = rng.integers(0, CLASSES if mode == "softmax" else 2, shape)
    targets[rng.random(shape) < 0.2] = IGNORED
    return {"logits": logits, "targets": targets} | ({"offsets": offsets} if task == "tokens" else {})


def created(client: LossClient, name: str, task: Task, mode: str, **options: Any) -> RunClient:
    config = {"mode": mode, "gamma": 1.5, "ignore_index": IGNORED}
    return client.put_run(name, config=config, task=task, **options)


@at_most(12, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 10_000), st.sampled_from([np.float16, np.float32, np.float64]))
def test_statistics_give_the_examples_and_units_of_the_logits(
    loss_client: LossClient, case: tuple[Task, str], seed: int, dtype: Any
) -> None:
    parts = parts_of(*case, seed)
    parts["logits"] = parts["logits"].astype(dtype)
    run = created(loss_client, "reduced", *case)
    try:
        for epoch, reduce in enumerate((False, True)):
            run.push(epoch, "b", parts | {"ids": IDS}, reduce=reduce)
        full, thin = (examples(run, epoch) for epoch in (0, 1))
        assert full.keys() == thin.keys()
        for identity, row in full.items():
            assert [row[name] for name in COUNTS] == [thin[identity][name] for name in COUNTS]
            for name in SCORES:
                assert thin[identity][name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name
        for identity in list(full)[:2]:
            assert_same_units(*(run.example(identity, epoch=epoch)["units"] for epoch in (0, 1)))
    finally:
        run.delete()


def examples(run: RunClient, epoch: int = 0) -> dict[str, Any]:
    return {row["id"]: row for row in run.all_examples(epoch=epoch)}


def assert_same_units(units: list[Any], others: list[Any]) -> None:
    exact = ("unit", "target", "suggested", "num_elements", "box")
    assert [[unit[name] for name in exact] for unit in units] == [[unit[name] for name in exact] for unit in others]
    for name in ("loss", "p_t", "suggested_p"):
        assert [unit[name] for unit in others] == pytest.approx([unit[name] for unit in units], abs=1e-4)


def as_lists(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of each example in forms that a caller may have: lists, arrays, tensors."""
    bounds = list(pairwise(parts["offsets"]))
    arrays = {name: [parts[name][start:stop] for start, stop in bounds] for name in ("logits", "targets")}
    return [
        {name: [array.tolist() for array in values] for name, values in arrays.items()},
        arrays,
        {name: [torch.from_numpy(array) for array in values] for name, values in arrays.items()},
    ]


@pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
def test_tokens_in_lists_are_those_with_offsets(loss_client: LossClient, mode: str) -> None:
    run, parts = created(loss_client, f"lists-{mode}", "tokens", mode), parts_of("tokens", mode, 1)
    run.push(0, "b", parts["logits"].astype(np.float64), parts["targets"], IDS, offsets=parts["offsets"])
    for lists in as_lists(parts):
        lists["logits"] = [np.asarray(values, np.float64) for values in lists["logits"]]
        # The same content again: no conflict.
        run.push(0, "b", lists["logits"], lists["targets"], IDS)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_batches"]) == (len(examples(run)), 1)


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize(("task", "mode"), CASES)
def test_tables_have_nested_lists(loss_client: LossClient, task: Task, mode: str, reduce: bool) -> None:
    run, parts = created(loss_client, f"table-{task}-{mode}-{reduce}", task, mode), parts_of(task, mode, 4)
    values = {name: parts[name] for name in ("logits", "targets")}
    lists = as_lists(parts)[0] if task == "tokens" else {name: array.tolist() for name, array in values.items()}
    run.push(0, "b", pa.table({"id": IDS, **lists}), reduce=reduce)
    run.push(1, "b", parts | {"ids": IDS})
    from_table, expected = (examples(run, epoch) for epoch in (0, 1))
    assert from_table.keys() == expected.keys()
    for identity, row in expected.items():
        assert from_table[identity]["loss"] == pytest.approx(row["loss"], rel=1e-4, abs=1e-6)


def test_padded_tokens_are_elements_that_do_not_count(loss_client: LossClient) -> None:
    run, rng = created(loss_client, "padded", "tokens", "softmax"), np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 4, CLASSES)), np.array([[0, 1, IGNORED, IGNORED], [2, 1, 0, IGNORED]])
    run.push(0, "b", torch.from_numpy(logits), torch.from_numpy(targets), ["a", "b"])
    assert {name: row["num_valid"] for name, row in examples(run).items()} == {"a": 2, "b": 3}
    # `LossClient.loss` takes them too.
    reply = loss_client.loss(logits, targets, layout="ragged", config={"ignore_index": IGNORED}, outputs=["num_valid"])
    assert reply.batches[0].per_example["num_valid"].tolist() == [2, 3]


def test_class_names_are_labels_of_tokens_and_pixels(loss_client: LossClient) -> None:
    names, logits = ["O", "PER", "ORG"], np.eye(3)[[0, 1, 1, 2]]
    tokens = loss_client.put_run("named-tokens", task="tokens", class_names=names)
    tokens.push(0, "b", [logits[:2], logits[2:]], [["O", "PER"], ["ORG", "ORG"]], ["a", "b"])
    assert {name: row["num_wrong"] for name, row in examples(tokens).items()} == {"a": 0, "b": 1}
    masks = loss_client.put_run("named-masks", task="masks", class_names=names)
    masks.push(0, "b", logits.T[None], [["O", "PER", "ORG", "ORG"]], ["a"])
    assert masks.example("a")["num_wrong"] == 1
    with pytest.raises(InvalidTargetError, match="batch 0, row 0, element 3: 'LOC' is not the name"):
        masks.push(0, "c", logits.T[None], [["O", "PER", "ORG", "LOC"]], ["c"])
    # Of several labels the names are those of the labels.
    labels = loss_client.put_run("named-labels", task="multi_label", config={"mode": "sigmoid"}, class_names=names)
    labels.push(0, "b", logits, [[True, False, False], [0, 1, 0], ["0", "1", "1"], [0, 0, 1]], range(4))
    assert labels.describe()["num_classes"] == 3
    assert examples(labels)["2"]["num_wrong"] == 1
    with pytest.raises(InvalidTargetError, match="column 0: 'O' is not a number"):
        labels.push(0, "c", logits[:1], [["O", "PER", "ORG"]], ["c"])


def test_statistics_of_the_caller_need_the_number_of_classes(loss_client: LossClient) -> None:
    reply = loss_client.loss(LOGITS, TARGETS, outputs=["loss"], elements=STATISTICS, layout="ragged", offsets=[0, 2, 3])
    parts = {**reply.batches[0].per_element, "targets": TARGETS, "offsets": [0, 2, 3], "ids": ["a", "b"]}
    run = loss_client.put_run("statistics", task="tokens")
    with pytest.raises(InvalidRequestError, match="number of classes"):
        run.push(0, "b", parts)
    run.push(0, "b", parts, num_classes=3)
    assert run.describe()["num_classes"] == 3
    options: Any = {"layout": "ragged", "outputs": ["loss"], "elements": ["confidence_weighted_entropy"]}
    with pytest.raises(NeedsLogitsError):
        loss_client.loss(parts, **options)
    assert loss_client.loss(parts, num_classes=3, **options).loss == pytest.approx(reply.loss)
    with pytest.raises(InvalidTargetError, match="outside"):
        loss_client.loss(parts, num_classes=2, **options)


BAD: list[tuple[Task, dict[str, Any], type[Exception], str]] = [
    ("tokens", {"logits": [LOGITS[:2], LOGITS[:1]], "targets": [[0, 1]]}, ShapeError, "1 lists of targets for 2"),
    ("tokens", {"logits": [LOGITS[:2]], "targets": [[0]]}, ShapeError, "row 0: 1 targets for 2 elements of logits"),
    ("tokens", {"logits": [LOGITS[:2], LOGITS[:1, :2]], "targets": [[0, 1], [0]]}, ShapeError, "row 1: an element has"),
    ("tokens", {"logits": [LOGITS[0]], "targets": [[0, 1, 2]]}, ShapeError, "logits"),
    ("tokens", {"logits": LOGITS, "targets": TARGETS}, LayoutNotStoredError, "ragged"),
    ("tokens", {"logits": LOGITS, "targets": [TARGETS, TARGETS]}, ShapeError, "targets"),
    ("tokens", {"logits": LOGITS, "targets": TARGETS, "offsets": [0, 2, 1, 3]}, ShapeError, "offsets never fall"),
    ("masks", {"logits": LOGITS, "targets": TARGETS}, LayoutNotStoredError, "dense"),
    ("masks", {"logits": LOGITS[None], "targets": TARGETS[None], "offsets": [0, 3]}, ShapeError, "offsets are for"),
    ("classification", {"logits": LOGITS[None], "targets": TARGETS[None]}, ShapeError, "one class of each"),
]


@pytest.mark.parametrize(("task", "parts", "kind", "says"), BAD)
def test_batches_of_another_form(
    loss_client: LossClient, task: Task, parts: dict[str, Any], kind: type[Exception], says: str
) -> None:
    run = loss_client.put_run(f"bad-{task}", task=task)
    ids = range(len(parts.get("offsets", parts["logits"])) - ("offsets" in parts))
    with pytest.raises(kind, match=says):
        run.push(0, "b", **parts, ids=ids)


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize(("task", "mode"), CASES)
def test_recorder_joins_the_batches_of_a_task(loss_client: LossClient, task: Task, mode: str, reduce: bool) -> None:
    run, parts = created(loss_client, f"recorded-{task}-{mode}-{reduce}", task, mode), parts_of(task, mode, 2)
    with RunRecorder(run, task=task, reduce=reduce) as recorder:
        for rows in (slice(0, 2), slice(2, EXAMPLES)):
            if task == "tokens":
                lists = as_lists(parts)[1]
                recorder.add(0, IDS[rows], lists["logits"][rows], lists["targets"][rows])
            else:
                recorder.add(0, IDS[rows], parts["logits"][rows], parts["targets"][rows])
    assert recorder.num_sent == EXAMPLES
    run.push(1, "b", parts | {"ids": IDS})
    recorded, pushed = (examples(run, epoch) for epoch in (0, 1))
    assert {row["batch"] for row in recorded.values()} == {"rank-0-000000"}
    for identity, row in pushed.items():
        assert recorded[identity]["loss"] == pytest.approx(row["loss"], rel=1e-4, abs=1e-6)


def test_recorder_of_another_task(loss_client: LossClient) -> None:
    run = loss_client.put_run("other-task", task="tokens")
    with pytest.raises(LayoutNotStoredError, match="takes batches of the layout ragged"):
        RunRecorder(run, task="masks", reduce=True)
    recorder = RunRecorder(run, task="tokens")
    with pytest.raises(InvalidTargetError, match="labels of a recorder are numbers"):
        recorder.add(0, ["a"], [LOGITS], [["O", "O", "O"]])
    # With the next batch these offsets would end with the number of targets.
    with pytest.raises(ShapeError, match="offsets begin with 0"):
        recorder.add(0, ["a"], LOGITS, TARGETS, offsets=[1, 3])
    recorder.close()
