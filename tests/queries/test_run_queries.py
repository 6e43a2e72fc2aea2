"""Retries of queries, their memory, and the locations of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import StorageFullError, StorageUnavailableError
from service.queries.run_queries import RunQueries
from service.queries.view import View
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.storage.files import open_files
from tests.runs.plain_rows import add
from tests.runs.temp_runs import TempRuns, noisy, temp_runs


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        yield temp


@pytest.mark.parametrize("kind", ["folder", "url of a folder", "memory"])
def test_queries_read_runs_in_every_kind_of_location(tmp_path: Path, kind: str) -> None:
    locations = {
        "folder": str(tmp_path / "it's here"),
        "url of a folder": f"file://{tmp_path}/data",
        "memory": f"memory://{tmp_path.name}/data",
    }
    store = RunStore(open_files(locations[kind]), 1_000_000)
    store.create("r", RunDescription())
    add(store, "r", 0, "b", ["x", "y"])
    add(store, "r", 1, "c", ["z"])
    queries = RunQueries(store, 2**28)

    def ids(view: View) -> list[str]:
        return [row["id"] for row in view.rows(f"SELECT id FROM {view.scored(view.weighting())} ORDER BY id")]

    assert queries.ask("r", ids) == ["x", "y", "z"]
    store.delete("r")
    assert store.names() == []
    queries.close()


def test_a_query_runs_again_if_its_files_are_merged(runs: TempRuns) -> None:
    runs.create()
    for number in range(32):
        logits, targets = noisy(5, 3, number)
        runs.put(logits, targets, [f"{number}-{row}" for row in range(5)], batch=f"b{number}")
    expected, merged = runs.raw(), []

    def question(view: View) -> list[dict[str, Any]]:
        if not merged:
            merged.append(runs.merge(0))
        return view.rows(f"SELECT * FROM {view.stored(0)} ORDER BY epoch, batch, row")

    assert runs.ask(question) == expected
    assert merged == [32]
    assert len(runs.store.snapshot("r").data) == 1


def test_a_query_runs_again_if_a_file_disappears_during_streaming(runs: TempRuns) -> None:
    runs.create()
    runs.put([[0.0, 1.0]], [1])
    views = []

    def question(view: View) -> list[dict[str, Any]]:
        views.append(view)
        if len(views) == 1:
            raise OSError('IO Error: Cannot open file "..": No such file or directory')  # the message of Arrow's reader
        return view.rows(f"SELECT id FROM {view.stored()}")

    assert runs.ask(question) == [{"id": "e0000"}]
    assert len(views) == 2


def test_a_missing_file_is_a_storage_error_after_five_attempts(runs: TempRuns) -> None:
    runs.create()
    runs.put([[0.0, 1.0]], [1])
    views = []

    def question(view: View) -> object:
        views.append(view)
        return view.rows("SELECT * FROM read_parquet('/nowhere/at/all.parquet')")

    with pytest.raises(StorageUnavailableError):
        runs.ask(question)
    assert len(views) == 5


@pytest.mark.slow
def test_queries_beyond_their_memory_use_the_disk_then_raise() -> None:
    with temp_runs(memory_bytes=48 * 2**20) as runs:
        runs.create()
        runs.put([[0.0, 1.0]], [1])
        numbers = "SELECT hash(range) AS h, 'a text of some length ' || range AS t FROM range(1000000)"
        result = runs.ask(
            lambda view: view.row(
                f"SELECT max(n) AS n FROM (SELECT row_number() OVER (ORDER BY h, t) AS n FROM ({numbers}))"
            )
        )
        assert result["n"] == 1_000_000
        with pytest.raises(StorageFullError, match="query_memory_bytes"):
            runs.ask(lambda view: view.row(f"SELECT length(string_agg(t, ',')) AS n FROM ({numbers})"))
