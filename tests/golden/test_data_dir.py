"""Compatibility: this version reads a data directory of version 0.1.0 and gives the same replies.

Commit 65004d4 wrote `data_dir_0_1_0/` (two runs of random rows, two epochs, a queue and three reviews) and
`replies_0_1_0.json`. Never write them again with a later version.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.settings import Settings

HERE = Path(__file__).parent
REPLIES: dict[str, Any] = json.loads((HERE / "replies_0_1_0.json").read_text())


def approximately(value: Any) -> Any:
    """The value with a relative tolerance of 1e-6 for its floats, since sums may be computed in another order."""
    if isinstance(value, dict):
        return {name: approximately(member) for name, member in value.items()}
    if isinstance(value, list):
        return [approximately(member) for member in value]
    return pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The replies of this version to the same requests."""
    folder = tmp_path_factory.mktemp("golden") / "data"
    shutil.copytree(HERE / "data_dir_0_1_0", folder)
    app = create_app(Settings(device="cpu", data_dir=str(folder)))

    async def get_all() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            responses = {path: await client.get(path) for path in REPLIES}
        return {
            path: reply.json() if reply.headers["content-type"] == "application/json" else reply.text
            for path, reply in responses.items()
        }

    try:
        return asyncio.run(get_all())
    finally:
        app.state.service.close()


def known(value: Any, earlier: Any) -> Any:
    """The value without the members that objects did not have earlier; members are added, and never removed."""
    if isinstance(value, dict) and isinstance(earlier, dict):
        return {name: known(member, earlier[name]) for name, member in value.items() if name in earlier}
    if isinstance(value, list) and isinstance(earlier, list) and len(value) == len(earlier):
        return [known(*pair) for pair in zip(value, earlier, strict=True)]
    return value


def parsed(reply: Any) -> Any:
    """The rows of CSV and JSONL, each with its columns in their order; other replies unchanged."""
    if not isinstance(reply, str):
        return reply
    if reply.startswith("{"):
        return [json.loads(line) for line in reply.splitlines()]
    return list(csv.DictReader(io.StringIO(reply, newline="")))


@pytest.mark.parametrize("path", REPLIES)
def test_a_reply_is_the_same_as_in_0_1_0(replies: dict[str, Any], path: str) -> None:
    now, earlier = parsed(replies[path]), parsed(REPLIES[path])
    assert known(now, earlier) == approximately(earlier)
    # Further columns come after the earlier ones.
    if isinstance(REPLIES[path], str):
        assert [list(row)[: len(earlier[0])] for row in now] == [list(row) for row in earlier]
