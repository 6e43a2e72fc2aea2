"""`focal-loss score` as a process: with a service, killed and continued, its exit statuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.cli import command
from tests.live.server_process import ServerProcess, service_environment, wait_for

ROWS, CLASSES, BATCH_ROWS = 40_000, 10, 500


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    logits = pa.array(rng.standard_normal(ROWS * CLASSES).astype(np.float32))
    table = pa.table(
        {
            "logits": pa.FixedSizeListArray.from_arrays(logits, CLASSES),
            "targets": rng.integers(0, CLASSES, ROWS),
            "id": [f"row-{row}" for row in range(ROWS)],
        }
    )
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    return path


def process_arguments(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "service", "score", *map(str, arguments), "--batch-rows", str(BATCH_ROWS)]


def score(*arguments: Any) -> command.Ended:
    return command.run("score", *arguments, "--batch-rows", BATCH_ROWS)


def test_a_service_and_this_process_compute_the_same_scores(server: ServerProcess, rows: Path, tmp_path: Path) -> None:
    remote = score(rows, "-o", tmp_path / "remote.parquet", "--url", server.url, "--gamma", "1.5")
    assert remote.returncode == 0, remote.stderr
    local = score(rows, "-o", tmp_path / "local.parquet", "--local", "--device", "cpu", "--gamma", "1.5")
    assert local.returncode == 0, local.stderr
    remote_table, local_table = (
        pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("remote", "local")
    )
    assert remote_table.equals(local_table)
    assert len(remote_table) == ROWS
    for shown in (remote.stderr, local.stderr):
        assert f"{ROWS} examples" in shown
        assert "Worst classes" in shown
        assert "Hardest examples" in shown


def test_a_killed_run_continues_and_writes_the_same_file(server: ServerProcess, rows: Path, tmp_path: Path) -> None:
    whole = score(rows, "-o", tmp_path / "whole.parquet", "--url", server.url)
    assert whole.returncode == 0, whole.stderr
    output = tmp_path / "out.parquet"
    parts = tmp_path / "out.parquet.parts"
    arguments = process_arguments(rows, "-o", output, "--url", server.url)
    num_parts = 0
    for minimum in (1, 9, 25, 60):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=service_environment())
        wait_for(lambda minimum=minimum: len(list(parts.glob("part-*.parquet"))) >= minimum, f"{minimum} parts")
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        assert not output.exists()
        finished = sorted(parts.glob("part-*.parquet"))
        assert len(finished) >= num_parts
        num_parts = len(finished)
        for part in finished:
            assert len(pyarrow.parquet.read_table(part)) == BATCH_ROWS
        times = {part: part.stat().st_mtime_ns for part in finished}
    last = score(rows, "-o", output, "--url", server.url)
    assert last.returncode == 0, last.stderr
    assert times  # the last run used the parts of the killed runs, and removed their folder
    assert not parts.exists()
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_run_continues_after_the_service_was_lost(rows: Path, tmp_path: Path) -> None:
    ended = score(rows, "-o", tmp_path / "out.parquet", "--url", "http://127.0.0.1:9")
    assert ended.returncode == 1
    assert "127.0.0.1:9" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["absent.parquet", "-o", "out.parquet"], 2, "absent.parquet"),
        (["rows.csv", "-o", "out.xlsx"], 2, ".xlsx"),
        (["rows.csv", "-o", "out.csv", "--gamma", "-1"], 2, "gamma"),
        (["rows.csv", "-o", "out.csv", "--outputs", "margin"], 2, "margin"),
        (["rows.csv", "-o", "out.csv", "--config", "{"], 2, "--config"),
        (["rows.csv", "-o", "out.csv", "--alpha", "1,x"], 2, "--alpha"),
        (["rows.csv", "-o", "out.csv", "--targets", "truth"], 2, "truth"),
        (["rows.csv", "-o", "out.csv"], 3, "rows.csv, row 1: target 7"),
    ],
)
def test_exit_statuses_and_messages(tmp_path: Path, arguments: list[str], status: int, text: str) -> None:
    (tmp_path / "rows.csv").write_text("logit_0,logit_1,label\n1,2,0\n1,2,7\n")
    paths = [str(tmp_path / word) if word.startswith(("absent", "rows", "out")) else word for word in arguments]
    ended = score(*paths, "--local")
    assert ended.returncode == status, ended.stderr
    assert text in ended.stderr


def test_standard_input_and_output(server: ServerProcess) -> None:
    lines = "".join(json.dumps({"logits": [row, 0.5], "label": 0}) + "\n" for row in range(20))
    ended = subprocess.run(
        process_arguments("-", "--format", "jsonl", "-o", "-", "--url", server.url),
        input=lines,
        capture_output=True,
        text=True,
        env=service_environment(),
        timeout=60,
        check=True,
    )
    scored = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["row"] for row in scored] == list(range(20))
    assert scored[0]["loss"] > scored[19]["loss"]


def test_a_closed_pipe_ends_the_command_quietly(server: ServerProcess, rows: Path) -> None:
    with subprocess.Popen(
        process_arguments(rows, "-o", "-", "--url", server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=service_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id":"row-0"')
        process.stdout.close()
        assert process.wait(60) == 1
        assert b"Traceback" not in process.stderr.read()


def test_info_and_configs(server: ServerProcess) -> None:
    def shown(*arguments: str) -> str:
        ended = command.run(*arguments, "--url", server.url)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    info = json.loads(shown("info", "--json"))
    assert info["ready"] is True
    assert info["device"] in shown("info")
    configs = json.loads(shown("configs", "--json"))
    assert all(config["config_id"].startswith("fl_") for config in configs)
    for config in configs[:5]:
        assert config["config_id"] in shown("configs")
