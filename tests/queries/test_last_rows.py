"""The last row of an example: that of its last epoch, and in it the one that counts."""

from __future__ import annotations

import pytest

from service.queries.last_rows import last_rows
from tests.runs.temp_runs import temp_runs


@pytest.mark.parametrize("columns", [(), ("target", "prediction")])
def test_the_last_row_of_each_example_counts(columns: tuple[str, ...]) -> None:
    logits = [[1.0, 0.0, 0.0]]
    with temp_runs() as runs:
        runs.create()
        for epoch, batch, target, identity in (
            (0, "a", 0, "only first"),
            (0, "b", 1, "both"),
            (1, "b", 2, "both"),
            (1, "c", 0, "both"),
            (1, "a", 1, "both"),
        ):
            runs.put(logits, [target], [identity], epoch=epoch, batch=batch)
        found = runs.ask(lambda view: last_rows(view, ["both", "only first", "unknown"], columns))
        counted = runs.ask(lambda view: view.rows(f"SELECT id, target FROM {view.stored(1)}"))
    expected = {"both": (1, 0), "only first": (0, 0)}
    assert {identity: row["epoch"] for identity, row in found.items()} == {
        key: epoch for key, (epoch, _) in expected.items()
    }
    assert counted == [{"id": "both", "target": 0}]
    if columns:
        assert {identity: row["target"] for identity, row in found.items()} == {
            key: target for key, (_, target) in expected.items()
        }
