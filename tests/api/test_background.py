"""Work on other threads: merging as soon as a folder has enough files, and queries that end with their request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.app import create_app
from service.api.current import CURRENT, CurrentRequest
from service.api.state import Service
from service.queries.view import View
from service.runs.manifest import RunDescription
from service.settings import Settings
from service.storage.compaction import MERGED_AT_ONCE
from service.storage.temporary import TemporaryFile
from tests.lanes import mostly_slow


@pytest.mark.parametrize("kind", mostly_slow(["batches", "reviews"], quick=1))
def test_files_are_merged_when_there_are_enough(tmp_path: Path, kind: str) -> None:
    app = create_app(Settings(device="cpu", data_dir=str(tmp_path)))

    async def send(client: httpx.AsyncClient, number: int) -> None:
        if kind == "batches" or number == 0:
            body = {"logits": [[0.0, 1.0]], "targets": [0], "ids": [f"e{number}"]}
            reply = await client.put(f"/runs/r/epochs/0/batches/{number}", json=body)
            assert reply.status_code == 201
        if kind == "reviews":
            reply = await client.post("/runs/r/reviews", json=[{"id": "e0", "verdict": "ok", "comment": str(number)}])
            assert reply.status_code == 201

    async def send_all() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            await client.put("/runs/r", json={})
            for number in range(MERGED_AT_ONCE):
                await send(client, number)
            (folder,) = tmp_path.glob("runs/r/*/epochs/0" if kind == "batches" else "runs/r/*/reviews")
            while len([path for path in folder.iterdir() if not path.name.startswith(".")]) > 1:
                await asyncio.sleep(0.01)
            if kind == "reviews":
                reviews = (await client.get("/runs/r/reviews?history=true")).json()["reviews"]
                return len({review["comment"] for review in reviews})
            return int((await client.get("/runs/r")).json()["num_rows"])

    try:
        assert asyncio.run(asyncio.wait_for(send_all(), 60)) == MERGED_AT_ONCE
    finally:
        app.state.service.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with an empty run."""
    service: Service = create_app(Settings(device="cpu", data_dir=str(tmp_path))).state.service
    service.runs.store.create("r", RunDescription.parse({}))
    yield service
    service.close()


async def ask_and_end(service: Service, question: Callable[[View], object], started: Event, *, leaves: bool) -> None:
    """Ask for a request whose client leaves, or whose task is cancelled, after the question has started."""
    messages: asyncio.Queue[Message] = asyncio.Queue()
    CURRENT.set(CurrentRequest(service.admission.place(), messages.get))
    request = asyncio.create_task(service.runs.ask("r", question))
    await messages.put({"type": "http.request", "body": b"", "more_body": False})
    await asyncio.to_thread(started.wait)
    if leaves:
        await messages.put({"type": "http.disconnect"})
    else:
        request.cancel()
    await asyncio.wait([request])
    assert request.cancelled() or isinstance(request.exception(), ClientDisconnect)


@pytest.mark.parametrize("leaves", [True, False])
def test_the_query_of_a_request_that_has_ended_is_interrupted(service: Service, leaves: bool) -> None:
    started, ended = Event(), Event()

    def question(view: View) -> None:
        started.set()
        try:
            view.row("SELECT sum(hash(a.range, b.range) % 7) AS n FROM range(200000) a, range(20000) b")
        finally:
            ended.set()

    async def check() -> None:
        await ask_and_end(service, question, started, leaves=leaves)
        assert await asyncio.to_thread(ended.wait, 10)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(check())


@pytest.mark.parametrize("leaves", [True, False])
def test_the_file_of_a_request_that_has_ended_is_deleted(service: Service, tmp_path: Path, leaves: bool) -> None:
    """Also if the file is complete when the request ends, so that the question has no query to interrupt."""
    started, may_return = Event(), Event()
    paths: list[Path] = []

    def question(view: View) -> TemporaryFile:
        file = TemporaryFile(tmp_path, "export-")
        paths.append(file.path)
        started.set()
        assert may_return.wait(10)
        return file

    async def check() -> None:
        await ask_and_end(service, question, started, leaves=leaves)
        (path,) = paths
        assert path.exists()
        may_return.set()
        while path.exists():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(check(), 10))
