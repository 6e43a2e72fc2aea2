"""Runs of labels, tokens and masks on the command line, without a process: pushed files, units as texts and tables."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from service.cli.errors import DataError
from service.cli.runs.mine import parse_cap
from service.cli.runs.queue_output import queue_bytes, show_queue
from service.cli.runs.unit_places import unit_text
from service.cli.runs.upload import Target, named_chunks, push_chunks
from service.cli.score.chunks import Reading
from service.cli.score.columns import ColumnNames
from service.cli.score.sources import find_sources
from service.client import LossClient, RunClient
from service.exports.review_rows import COLUMNS, read_reviews
from service.exports.row_files import csv_rows, json_rows
from service.formats.labels import ClassNames
from service.schema.replies.queues import QueuePage, QueueRow
from service.schema.replies.runs import Run
from service.schema.request import STATISTICS, Batch
from service.schema.structure import LAYOUT_OF, Task
from tests.cli.command import run as run_command
from tests.cli.score.structured_files import ENDINGS, write
from tests.client.test_structured_runs import CASES, created, examples, parts_of
from tests.lanes import mostly_slow


def push(run: RunClient, path: Path, epoch: int = 0, num_classes: int | None = None) -> None:
    """Push a file as `focal-loss push` does, in chunks of at most 4 rows."""
    description = run.describe()
    names, task = description["class_names"], description["task"]
    reading = Reading(
        ColumnNames(),
        4,
        whole_targets=description["config"]["mode"] == "softmax",
        class_names=None if names is None or task == "multi_label" else ClassNames(names),
        layout=LAYOUT_OF[task],
    )
    chunks = named_chunks(find_sources([str(path)], None), reading, None, number_rows=path.suffix == ".safetensors")
    for _ in push_chunks(Target(run, epoch, description, num_classes), chunks, "error"):
        pass


@pytest.mark.parametrize("ending", mostly_slow(ENDINGS, quick=2))
@pytest.mark.parametrize(("task", "mode"), CASES)
def test_files_of_every_task_are_pushed(
    loss_client: LossClient, tmp_path: Path, task: Task, mode: str, ending: str
) -> None:
    parts = parts_of(task, mode, 3)
    run = created(loss_client, f"pushed-{task}-{mode}-{ending}", task, mode)
    path = write(tmp_path, ending, Batch(parts["logits"], parts["targets"], offsets=parts.get("offsets")))
    push(run, path)
    from_file = examples(run)
    assert len({row["batch"] for row in from_file.values()}) == 2
    ids = [row if ending == "safetensors" else f"row-{row}" for row in range(6)]
    run.push(1, "b", parts | {"ids": ids})
    expected = examples(run, 1)
    assert from_file.keys() == expected.keys()
    for identity, row in expected.items():
        assert from_file[identity]["loss"] == pytest.approx(row["loss"], rel=1e-6)


def test_names_of_classes_beside_the_number_of_ignored_tokens(loss_client: LossClient, tmp_path: Path) -> None:
    run, path = loss_client.put_run("names", task="tokens", class_names=["O", "PER"]), tmp_path / "rows.jsonl"
    rows = [{"id": "a", "logits": [[1, 0]] * 3, "targets": ["O", "PER", -100]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    push(run, path)
    assert run.example("a")["elements"]["targets"] == [0, 1, None]
    rows.append({"id": "b", "logits": [[1, 0]] * 2, "targets": ["LOC", -100]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="row 1, column 'targets': 'LOC' is not the name of a class"):
        push(run, path, epoch=1)


def test_scores_in_place_of_logits_need_the_number_of_classes(loss_client: LossClient, tmp_path: Path) -> None:
    run, path = loss_client.put_run("thin", task="tokens"), tmp_path / "rows.jsonl"
    scores = {name: [0.5, 0.25] for name in STATISTICS} | {"prediction": [0, 1]}
    path.write_text(json.dumps({"id": "a", "targets": [0, 0], **scores}))
    with pytest.raises(DataError, match="number of classes"):
        push(run, path)
    push(run, path, num_classes=3)
    assert (run.describe()["num_classes"], run.example("a")["num_wrong"]) == (3, 1)


def queue_row(task: Task, unit: Any, box: Any, **members: Any) -> QueueRow:
    row: Any = {"rank": 1, "id": "e", "unit": unit, "box": box, "num_elements": 4, "target": 0, "suggested": 1}
    row |= {"strategy": "top_loss", "score": 1.5, "loss": 1.5, "p_t": 0.2, "reason": "r", "attributes": {}}
    return cast("QueueRow", row | {"verdict": None, "verdict_label": None} | members)


TOKENS = {"tokens": ["Ask", "Ada", "Lovelace"]}
OFFSETS = {"text": "Ask Ada  Lovelace", "token_offsets": [[0, 3], [4, 7], [9, 17]]}


@pytest.mark.parametrize(
    ("task", "unit", "box", "attributes", "text"),
    [
        ("multi_label", 1, [[1], [2]], {}, "sea"),
        ("multi_label", 5, [[5], [6]], {}, "5"),
        ("tokens", [1, 3], [[1], [3]], TOKENS, "tokens 1-2: 'Ada Lovelace'"),
        ("tokens", [2, 3], [[2], [3]], TOKENS, "token 2: 'Lovelace'"),
        ("tokens", [1, 3], [[1], [3]], TOKENS | OFFSETS, "tokens 1-2: 'Ada  Lovelace'"),
        ("tokens", [1, 3], [[1], [3]], {}, "tokens 1-2"),
        ("tokens", [1, 3], [[1], [3]], {"tokens": ["Ask", 7]}, "tokens 1-2"),
        ("tokens", [1, 3], [[1], [3]], {"tokens": ["Ask", "Ada"]}, "tokens 1-2"),
        ("masks", 0, [[20, 24], [40, 30]], {}, "region 0, 4 at [20, 24] to [40, 30]"),
        ("masks", None, None, {}, ""),
    ],
)
def test_a_unit_in_a_few_words(task: Task, unit: Any, box: Any, attributes: Any, text: str) -> None:
    assert unit_text(queue_row(task, unit, box, attributes=attributes), task, ["beach", "sea"]) == text


@pytest.mark.parametrize("extension", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("task", "units", "label"),
    [
        ("multi_label", [0, 1, None], "present"),
        ("tokens", [[1, 3], [0, 1], None], "ORG"),
        ("masks", [0, 7, None], "ORG"),
    ],
)
def test_a_queue_of_units_is_read_back(task: Task, units: list[Any], label: str, extension: str) -> None:
    run = cast("Run", {"task": task, "class_names": ["PER", "ORG"]})
    rows = [
        queue_row(task, unit, None if unit is None else [[1], [3]], rank=rank, verdict="wrong", attributes=TOKENS)
        for rank, unit in enumerate(units)
    ]
    rows[1]["verdict_label"] = 1
    content = queue_bytes(cast("QueuePage", {"rows": rows}), run, extension)
    read = csv_rows(content, COLUMNS) if extension == ".csv" else json_rows(content, COLUMNS)
    reviews = read_reviews(read, run["class_names"], task).reviews
    assert [review.unit for review in reviews] == units
    assert [review.label for review in reviews] == [None, 1, None]
    if extension == ".csv":
        every = replace(COLUMNS, known=(*COLUMNS.known, "tokens"))
        (_, second, _) = csv_rows(content, every)
        assert (second["label"], json.loads(str(second["tokens"]))) == (label, TOKENS["tokens"])


def test_a_queue_of_units_is_printed() -> None:
    rows = [queue_row("multi_label", 1, [[1], [2]]), queue_row("multi_label", None, None, target=None, suggested=None)]
    queue = {"name": "q", "rows": rows, "expected_yield": {"wrong_labels": 1.0, "caveat": "c"}, "warnings": []}
    queue |= {"num_rows": 2, "num_examples": 2, "epoch": 0}
    console = Console(file=io.StringIO(), width=120)
    show_queue(cast("QueuePage", queue), cast("Run", {"task": "multi_label", "class_names": ["a", "sea"]}), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "unit" in shown
    assert any(line.split()[:6] == ["1", "e", "sea", "absent", "->", "present"] for line in shown.splitlines())
    assert any(line.split()[:3] == ["1", "e", "-"] for line in shown.splitlines())


def test_caps_of_a_queue() -> None:
    assert parse_cap(None) is None
    assert parse_cap("3") == {"count": 3}
    assert parse_cap("annotator=5") == {"attribute": "annotator", "count": 5}
    assert parse_cap("7=5") == {"attribute": "7", "count": 5}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["push", "r", "rows.jsonl", "--epoch", "0", "--task", "tokens"], "add --create"),
        (["push", "r", "rows.jsonl", "--epoch", "0", "--within", "max"], "add --create"),
        (["runs", "create", "r", "--task", "labels"], "not one of"),
        (["runs", "create", "r", "--within", "top_share=most"], "--within top_share=most: expected top_share= and a"),
        (["mine", "r", "--at-most", "many"], "--at-most many: expected name=number"),
        (["mine", "r", "--at-most", "a=1,b=2"], "--at-most names one attribute"),
    ],
)
def test_options_that_make_no_sense(words: list[str], says: str) -> None:
    ended = run_command(*words)
    assert ended.returncode == 2
    assert says in " ".join(ended.stderr.replace("│", " ").split())
