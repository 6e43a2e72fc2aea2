"""Files with the losses of structured examples: failures to write them, and questions that fail meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from service.queries.view import View
from tests.services import running_app

BODY = {"layout": "ragged", "ids": ["a"], "logits": [[[1, 0], [0, 1]]], "targets": [[0, 0]]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a service with one run of tokens, whose losses were not asked for yet."""
    with (
        running_app(tmp_path) as transport,
        httpx.Client(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        client.put("/runs/r", json={"task": "tokens"}).raise_for_status()
        client.put("/runs/r/epochs/0/batches/b", json=BODY).raise_for_status()
        yield client


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "storage_full"),
        (PermissionError(errno.EACCES, "Permission denied"), 503, "storage_unavailable"),
    ],
)
def test_a_file_that_cannot_be_written_is_no_damage(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: OSError, status: int, code: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_batch", failing(error))
        reply = client.get("/runs/r/examples")
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert client.get("/runs/r/examples").status_code == 200


def test_a_file_that_was_deleted_is_written_again(client: httpx.Client, tmp_path: Path) -> None:
    before = client.get("/runs/r/examples").json()
    files = [*(tmp_path / "data").rglob("examples-*")]
    assert files
    for file in files:
        file.unlink()
    assert client.get("/runs/r/examples").json() == before


def test_a_batch_that_was_merged_meanwhile_is_read_again(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass over the stored rows finds a file missing: the question is asked again."""
    stored = View.stored_batches
    missing = [FileNotFoundError("merged"), OSError("an error of a reader")]

    def stored_batches(view: View, *arguments: Any, **options: Any) -> Any:
        if missing:
            raise missing.pop()
        return stored(view, *arguments, **options)

    monkeypatch.setattr(View, "stored_batches", stored_batches)
    assert client.get("/runs/r/examples").json()["num_matching"] == 1
    assert not missing
