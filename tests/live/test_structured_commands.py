"""Runs of labels, tokens and masks by commands, over a connection: push, mine, review, export and read back."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from service.client import LossClient
from tests.cli import command
from tests.live.server_process import ServerProcess

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A run with one error that the model is sure of, and the unit of that error.

    Args:
        options: Options of the run.
        rows: Rows of its file.
        unit: The unit as `--unit` and CSV have it.
        shown: The unit on the terminal.
        wrong: Value of `--wrong` for the first row.
        label: Label of that review.
    """

    options: list[str]
    rows: list[dict[str, Any]]
    unit: str
    shown: str
    wrong: str
    label: int


def mask_rows() -> list[dict[str, Any]]:
    logits = np.zeros((2, 2, 6, 6))
    logits[:, 0] = 4
    logits[0, 1, 2:4, 1:3] = 9
    return [
        {"id": f"e{row}", "logits": logits[row].tolist(), "targets": np.zeros((6, 6), int).tolist()} for row in range(2)
    ]


CASES = {
    "multi_label": Case(
        ["--mode", "sigmoid", "--gamma-negative", "3", "--clip", "0.05", "--class-names", "beach,sea"],
        [
            {"id": "e0", "logits": [-3, 4], "targets": [0, 0]},
            {"id": "e1", "logits": [3, -4], "targets": [1, 0]},
        ],
        "1",
        "sea",
        "e0=present",
        1,
    ),
    "tokens": Case(
        ["--within", "max", "--class-names", "O,PER,ORG"],
        [
            {
                "id": "e0",
                "logits": [[3, 0, 0], [0, 4, 0], [0, 3, 1]],
                "targets": [0, 0, 0],
                "tokens": ["Ask", "Ada", "L"],
            },
            {"id": "e1", "logits": [[0, 3, 0]], "targets": [1], "tokens": ["Kim"]},
        ],
        "[1,3]",
        "tokens 1-2: 'Ada L'",
        "e0=PER",
        1,
    ),
    "masks": Case(["--within", "top_share=0.1"], mask_rows(), "0", "region 0, 4 at [2, 1] to [4, 3]", "e0=1", 1),
}


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[LossClient]:
    with LossClient(server.url) as connected:
        yield connected


@pytest.mark.parametrize("task", list(CASES))
def test_a_run_from_its_file_to_its_reviews(
    server: ServerProcess, client: LossClient, tmp_path: Path, task: str
) -> None:
    def focal_loss(*words: Any, status: int = 0) -> command.Ended:
        ended = command.run(*words, "--url", server.url)
        assert ended.returncode == status, ended.stderr
        return ended

    case, name = CASES[task], f"commands-{task}"
    run, path, table = client.run(name), tmp_path / "rows.jsonl", tmp_path / "monday.csv"
    path.write_text("".join(json.dumps(row) + "\n" for row in case.rows))
    create = ["push", name, path, "--epoch", 0, "--create", "--task", task, *case.options, "--attributes", "all"]
    assert "2 rows in 1 batches" in focal_loss(*create).stderr
    assert task in focal_loss("runs").stdout
    assert f"task     {task}, " in focal_loss("runs", "show", name).stdout
    # The default strategy of such a run has units.
    assert case.shown in " ".join(focal_loss("mine", name, "--name", "monday").stdout.split())
    focal_loss("mine", name, "--name", "monday", "--output", table)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["unit"], row["unit_text"]) for row in rows] == [("e0", case.unit, case.shown)]
    whole = json.loads(focal_loss("mine", name, "--no-units", "--at-most", "1", "--json").stdout)
    assert [(row["id"], row["unit"]) for row in whole["rows"]] == [("e0", None), ("e1", None)]

    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerow(rows[0] | {"verdict": "unsure"})
    focal_loss("review", name, table, "--queue", "monday")
    focal_loss("review", name, "--wrong", case.wrong, "--unit", case.unit, "--queue", "monday")
    unit = json.loads(case.unit)
    expected = [("e0", unit, "unsure", None), ("e0", unit, "wrong", case.label)]
    assert [(r["id"], r["unit"], r["verdict"], r["label"]) for r in run.reviews(history=True)["reviews"]] == expected
    for ending in ("csv", "jsonl", "parquet"):
        exported = tmp_path / f"exported.{ending}"
        focal_loss("export", name, "--queue", "monday", "--output", exported)
        focal_loss("review", name, exported, "--queue", "monday")
        last = run.reviews()["reviews"][-1]
        assert (last["unit"], last["verdict"], last["label"]) == (unit, "wrong", case.label)

    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerow(
            rows[0] | {"verdict": "ok", "unit": "[0,1]" if task == "tokens" else 0 if task == "multi_label" else 1}
        )
    stderr = focal_loss("review", name, table, "--queue", "monday", status=3).stderr
    assert "row 0, column 'unit': queue monday has no unit" in stderr
    compared = focal_loss("compare", name, name).stdout
    assert f"task    {task}, " in compared
    assert "common  2 examples" in compared
    assert "examples" in focal_loss("diagnose", name).stdout


def test_units_of_a_run_with_one_class_of_each_example(server: ServerProcess, client: LossClient) -> None:
    client.put_run("plain").push(0, "b", [[2.0, 0.0]], [1], ["a"])
    ended = command.run("review", "plain", "--ok", "a", "--unit", "1", "--url", server.url)
    assert (ended.returncode, "one class, and no units" in ended.stderr) == (2, True)
    assert command.run("mine", "plain", "--units", "--url", server.url).returncode == 2
