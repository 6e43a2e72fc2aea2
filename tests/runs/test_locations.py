from __future__ import annotations

from pathlib import Path

import pytest

from service.runs.files import open_files
from service.runs.manifest import RunDescription
from service.runs.queries import RunQueries, View
from service.runs.store import RunStore
from tests.runs.plain_rows import add


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
