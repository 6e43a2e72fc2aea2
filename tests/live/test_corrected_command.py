"""`focal-loss corrected` with a service: files of every format, and a user's own file that is pushed again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from service.client import LossClient
from tests.cli import command
from tests.live.server_process import ServerProcess

NAMES = ["cat", "dog", "bird"]
ROWS = 60


def focal_loss(server: ServerProcess, *words: object, status: int = 0) -> command.Ended:
    ended = command.run(*words, "--url", server.url)
    assert ended.returncode == status, ended.stderr
    return ended


def csv_rows(path: Path, separator: str) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines(keepends=True), delimiter=separator))


@pytest.fixture
def truth(server: ServerProcess, tmp_path: Path) -> list[str]:
    """The right labels of a run `pets`, whose file `pets.csv` has wrong ones; each row is reviewed."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, ROWS)
    given = np.where(np.arange(ROWS) % 7 == 0, (right + 1) % 3, right)
    logits = rng.standard_normal((ROWS, 3)).round(3) + 4 * np.eye(3)[right]
    with (tmp_path / "pets.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["logit_0", "logit_1", "logit_2", "label", "text", "id"])
        for row in range(ROWS):
            writer.writerow([*logits[row], NAMES[given[row]], f'say "{row}";', f"row-{row}"])
    names = ",".join(NAMES)
    words = ("push", "pets", tmp_path / "pets.csv", "--epoch", 0, "--attributes", "text", "--create")
    focal_loss(server, *words, "--class-names", names)
    with LossClient(server.url) as client:
        client.run("pets").review(
            [
                {"id": f"row-{row}", "verdict": "ok"}
                if given[row] == right[row]
                else {"id": f"row-{row}", "verdict": "wrong", "label": NAMES[right[row]], "reviewer": "ada"}
                for row in range(ROWS)
            ]
        )
    return [NAMES[label] for label in right]


def test_the_corrected_file_goes_back_in(server: ServerProcess, tmp_path: Path, truth: list[str]) -> None:
    like, output = tmp_path / "pets.csv", tmp_path / "clean.csv"
    ended = focal_loss(server, "corrected", "pets", "--like", like, "-o", output)
    assert f"Wrote {output}: 9 corrected, 51 kept." in ended.stderr
    before, after = (csv_rows(path, ";") for path in (like, output))
    assert [row["label"] for row in after] == truth
    assert [row["given_label"] for row in after] == [row["label"] for row in before]
    assert [{**row, "label": old["label"]} for row, old in zip(after, before, strict=True)] == [
        old | {name: row[name] for name in ("given_label", "status", "reviewers")}
        for row, old in zip(after, before, strict=True)
    ]
    focal_loss(server, "push", "again", output, "--epoch", 0, "--create", "--class-names", ",".join(NAMES))
    with LossClient(server.url) as client:
        rows = {row["id"]: row["target"] for row in client.run("again").all_examples()}
    assert rows == {f"row-{row}": NAMES.index(label) for row, label in enumerate(truth)}


@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet", ".arrow", ".label-studio.json"])
def test_the_data_set_is_written_by_the_extension(
    server: ServerProcess, tmp_path: Path, truth: list[str], extension: str
) -> None:
    output = tmp_path / f"clean{extension}"
    focal_loss(server, "corrected", "pets", "-o", output)
    match extension:
        case ".csv":
            labels = [row["label"] for row in csv_rows(output, ",")]
        case ".jsonl":
            labels = [json.loads(line)["label"] for line in output.read_text().splitlines()]
        case ".parquet":
            labels = pa.parquet.read_table(output)["label"].to_pylist()
        case ".arrow":
            labels = pa.ipc.open_file(output).read_all()["label"].to_pylist()
        case _:
            tasks = json.loads(output.read_text())
            labels = [task["annotations"][0]["result"][0]["value"]["choices"][0] for task in tasks]
    ids = sorted(f"row-{row}" for row in range(ROWS))
    assert labels == [truth[int(identity.removeprefix("row-"))] for identity in ids]


def test_the_client_returns_the_same_bytes(server: ServerProcess, tmp_path: Path, truth: list[str]) -> None:
    with LossClient(server.url) as client:
        run = client.run("pets")
        content = run.corrected(format="parquet")
        assert run.corrected(tmp_path / "clean.parquet", format="parquet") == b""
        assert b'"attributes"' not in run.corrected(attributes=False)
    assert (tmp_path / "clean.parquet").read_bytes() == content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "x.txt"), "unknown extension"),
        (("-o", "missing/x.csv"), "no such folder"),
        (("-o", "x.csv", "--id", "name"), "describe the file of --like"),
        (("-o", "x.parquet", "--like", "x.csv"), "writes the format of x.csv again, csv"),
        (("-o", "x.csv", "--like", "missing.csv"), "No such file"),
    ],
)
def test_usage_errors_say_what_to_do(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with LossClient(server.url) as client:
        client.put_run("empty")
    assert message in focal_loss(server, "corrected", "empty", *words, status=2).stderr
