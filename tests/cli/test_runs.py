"""Output of the commands about runs, without a service."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any, cast

import pytest
from rich.console import Console

from service.cli.runs.diagnose import show_findings
from service.cli.runs.manage import describe_config
from service.cli.runs.queue_output import queue_bytes
from service.errors import RunDamagedError
from service.exports.review_rows import COLUMNS, read_reviews
from service.exports.row_files import csv_rows
from service.schema.config import LossConfig
from service.schema.replies.queues import QueuePage, QueueRow
from service.schema.replies.runs import Run
from tests.cli.command import run
from tests.cli.findings import findings, structured_findings
from tests.exports.read_rows import members_of


@pytest.mark.parametrize(
    ("alpha", "text"),
    [
        (None, "softmax, gamma 1.5"),
        ([1.0, 0.25], "softmax, gamma 1.5, alpha 1, 0.25"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "softmax, gamma 1.5, alpha 1, 2, 3, 4, ..."),
        ({"class_counts": [90, 10], "scheme": "inverse"}, "softmax, gamma 1.5, alpha by class counts (inverse)"),
    ],
)
def test_a_configuration_in_a_few_words(alpha: Any, text: str) -> None:
    config: Any = LossConfig.parse({"gamma": 1.5, "alpha": alpha}).model_dump(mode="json")
    assert describe_config(config) == text


def test_a_damaged_run_is_listed_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = {"run": "bad", "error": "run.json cannot be read: \x1b[2J"}
    monkeypatch.setattr("service.client.LossClient.runs", lambda client: [damaged])
    ended = run("runs")
    assert ended.returncode == 0
    assert "Run bad is damaged: run.json cannot be read: \\x1b[2J" in ended.stdout
    assert json.loads(run("runs", "--json").stdout) == [damaged]


@pytest.mark.parametrize(
    "words", [["diagnose", "bad"], ["mine", "bad"], ["runs", "show", "bad"], ["review", "bad", "--ok", "a"]]
)
def test_a_command_about_a_damaged_run_names_the_file(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*arguments: object, **options: object) -> None:
        raise RunDamagedError("run bad is damaged: run.json cannot be read")

    for name in ("describe", "diagnostics", "create_queue"):
        monkeypatch.setattr(f"service.client.RunClient.{name}", damaged)
    ended = run(*words)
    assert (ended.returncode, ended.stderr.strip()) == (1, "run bad is damaged: run.json cannot be read")


def queue_row(identity: str, **members: Any) -> QueueRow:
    row: Any = {
        "rank": 1,
        "id": identity,
        "target": 0,
        "suggested": 1,
        "strategy": "top_loss",
        "score": 1.5,
        "loss": 1.5,
    }
    row |= {"p_t": 0.2, "reason": "-1 is less", "verdict": None, "verdict_label": None, "attributes": {}, "epoch": 3}
    return cast("QueueRow", row | members)


def test_a_queue_as_csv_is_read_back_with_its_verdicts_and_attributes_hide_nothing() -> None:
    taken = {"id": "x", "label": "dog", "reviewer": "kim", "verdict": "ok", "annotation_id": 1, "epoch": 9, "=1": "=2"}
    rows = [
        queue_row("=1+1", attributes=taken, verdict="wrong", verdict_label=1),
        queue_row("00017"),
        queue_row("-5", verdict="ok", attributes={"text": "\ttab"}),
    ]
    content = queue_bytes(
        cast("QueuePage", {"rows": rows}),
        cast("Run", {"task": "classification", "class_names": ["cat", "=dog"]}),
        ".csv",
    )
    cells = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert not [cell for row in cells for cell in row if cell.startswith(("=", "\t", "@"))]
    every = replace(COLUMNS, known=("attribute_id", "attribute_label", "epoch", "=1"))
    (first, *_) = csv_rows(content, every)
    assert (first["attribute_id"], first["attribute_label"]) == ("x", "dog")
    assert (first["epoch"], first["=1"]) == ("9", "=2")
    found = read_reviews(csv_rows(content, COLUMNS), ["cat", "=dog"]).reviews
    assert [members_of(row) for row in found] == [
        {"id": "=1+1", "verdict": "wrong", "label": 1},
        {"id": "-5", "verdict": "ok"},
    ]


def test_diagnose_prints_texts_of_the_data_without_interpreting_them() -> None:
    text = "[bold]owl[/bold] [/]"
    console = Console(file=io.StringIO(), width=200)
    show_findings(findings(text), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Warning: {text}" in shown
    assert f"{text} / {text}" in shown
    assert f"Run {text}, epoch 1 of 0, 1" in shown


def test_diagnose_prints_the_elements() -> None:
    text = "[bold]owl[/bold] [/]"
    console = Console(file=io.StringIO(), width=200)
    show_findings(structured_findings(text, "multi_label"), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "16 labels (3 more are ignored)",
        "label issues",
        "absent",
        "present",
        text,
        "about 5 wrong labels (31.2%)",
    ):
        assert part in shown
    assert "Words" not in shown


@pytest.mark.parametrize(
    ("words", "called", "text"),
    [
        ([], ("delete", ()), "Deleted run r."),
        (["--epoch", "3"], ("delete_epoch", (3,)), "Deleted epoch 3 of run r."),
        (["--epoch", "3", "--batch", "b"], ("delete_batch", (3, "b")), "Deleted batch b of epoch 3 of run r."),
    ],
)
def test_delete_deletes_a_run_an_epoch_or_a_batch(
    words: list[str], called: tuple[str, tuple[object, ...]], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, tuple[object, ...]]] = []
    for name in ("delete", "delete_epoch", "delete_batch"):
        monkeypatch.setattr(
            f"service.client.RunClient.{name}", lambda client, *args, name=name: calls.append((name, args))
        )
    ended = run("runs", "delete", "r", "--yes", *words)
    assert (ended.returncode, calls, ended.stderr.strip()) == (0, [called], text)


def test_a_batch_is_deleted_from_an_epoch() -> None:
    ended = run("runs", "delete", "r", "--yes", "--batch", "b")
    assert ended.returncode == 2
    assert "--epoch" in ended.stderr
