"""Warnings about verdicts, in the diagnostics and beside the reviews."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

ROWS = 40


def warnings(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    reply: list[dict[str, Any]] = client.get(f"/runs/habits/{path}").raise_for_status().json()["warnings"]
    return [warning for warning in reply if warning["code"] == "one_sided_verdicts"]


def test_verdicts_that_are_all_wrong_are_noticed_from_thirty_on(client: httpx.Client) -> None:
    logits = np.random.default_rng(0).normal(size=(ROWS, 3)).tolist()
    batch = {"logits": logits, "targets": [0, 1, 2, 0] * (ROWS // 4), "ids": list(range(ROWS))}
    client.put("/runs/habits", json={}).raise_for_status()
    client.put("/runs/habits/epochs/0/batches/a", json=batch).raise_for_status()

    def review(verdict: str, *rows: int) -> None:
        reviews = [{"id": row, "verdict": verdict, "reviewer": "kim"} for row in rows]
        client.post("/runs/habits/reviews", json=reviews).raise_for_status()

    review("wrong", *range(29))
    assert warnings(client, "reviews") == warnings(client, "diagnostics?fields=warnings") == []
    review("wrong", 29)
    (warning,) = warnings(client, "reviews")
    assert "All 30 verdicts of kim are `wrong`" in warning["message"]
    assert warnings(client, "diagnostics?fields=warnings") == [warning]
    assert "warnings" not in client.get("/runs/habits/diagnostics?fields=loss").json()
    review("ok", 30)
    assert warnings(client, "reviews") == warnings(client, "diagnostics") == []
