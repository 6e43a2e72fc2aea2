"""A service with one run of every kind of file, copies of it with one damaged file, and questions to all."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from service.api.app import create_app
from service.mining.queue_file import read_queue
from service.mining.queues import FOLDER
from service.runs.store import RunStore
from service.runs.verify import verify
from service.settings import Settings
from service.storage import compaction
from service.storage.compaction import compact
from service.storage.files import open_files

SOURCE, HEALTHY = "source", "healthy"
REVIEW = [{"id": "e1", "verdict": "wrong", "label": 0}]
ANNOTATIONS = [{"id": "e1", "annotator": "kim", "label": 0}, {"id": "e2", "annotator": "lee", "label": 2}]
QUEUE = {"strategy": "logit_margin", "budget": 3, "name": "q"}
DESCRIPTION: dict[str, Any] = {"class_names": ["cat", "dog", "bird"], "display": {"x": [1, {"y": None}]}}
QUESTIONS = (
    "",
    "/examples?limit=5",
    "/examples/e1",
    "/diagnostics",
    "/dynamics",
    "/queues",
    "/queues/q",
    "/reviews",
    "/consensus",
    "/export?format=jsonl",
    f"/compare/{HEALTHY}",
)
# A question takes milliseconds; a damaged length must not make one take minutes.
MOST_SECONDS = 20.0


def batch(number: int, epoch: int) -> dict[str, Any]:
    logits = [[(row * 7 + column * 3 + number + epoch) % 5 / 2 for column in range(3)] for row in range(4)]
    ids = [f"e{number * 4 + row}" for row in range(4)]
    return {
        "logits": logits,
        "targets": [row % 3 for row in range(4)],
        "ids": ids,
        "attributes": {"text": [f"text of {identity}" for identity in ids]},
    }


@dataclass
class DamagedRuns:
    """Copies of a run with one damaged file.

    Args:
        folder: The data directory.
        client: Client of the service.
        outcomes: Number of replies by what they say of the damage.
    """

    folder: Path
    client: httpx.AsyncClient
    outcomes: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=count)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._loop.run_until_complete(self.client.request(method, path, **options))

    def close(self) -> None:
        self._loop.run_until_complete(self.client.aclose())
        self._loop.close()

    def kinds(self) -> list[str]:
        """Path of each file of the run, in the folder of the run."""
        root = self.folder / "runs" / SOURCE
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != ".")

    def content(self, kind: str) -> bytes:
        return (self.folder / "runs" / SOURCE / kind).read_bytes()

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy of the run under a name of its own, since the service caches contents by path."""
        copy = self.folder / "runs" / f"bad{next(self._numbers)}"
        shutil.copytree(self.folder / "runs" / SOURCE, copy)
        try:
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def check(self, kind: str, content: bytes | None, *, is_folder: bool = False, in_use: bool = False) -> set[str]:
        """Ask everything about a run with one damaged file; returns the outcomes.

        Args:
            kind: Path of the file in the folder of the run.
            content: Content of the file; None for a missing file.
            is_folder: True for a folder in the place of the file.
            in_use: True to ask everything before the damage too.
        """
        with self.copy() as copy:
            for asked, reply, _ in self._ask(copy.name) if in_use else ():
                # The queue exists.
                assert reply.is_success or reply.status_code == 409, f"{asked}: {reply.text}"
            path = copy / kind
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            if is_folder:
                path.unlink()
                path.mkdir()
            if any(verify(RunStore(open_files(str(self.folder)), 1), copy.name, {FOLDER: read_queue})):
                self.outcomes["verified"] += 1
            outcomes = {self._outcome(copy.name, kind, *reply) for reply in self._ask(copy.name)}
            self.outcomes.update(outcomes)
            self._check_list(copy.name)
            reply = self.request("DELETE", f"/runs/{copy.name}")
            assert reply.status_code == 204, reply.text
            assert not copy.exists()
        return outcomes

    def _ask(self, run: str) -> Iterator[tuple[str, httpx.Response, float]]:
        asked: list[tuple[str, str, Any]] = [("GET", f"/runs/{run}{question}", None) for question in QUESTIONS]
        asked += [
            ("PUT", f"/runs/{run}", DESCRIPTION),
            ("PUT", f"/runs/{run}/epochs/0/batches/b0", batch(0, 0)),
            ("PUT", f"/runs/{run}/epochs/1/batches/new?replace=true", batch(99, 1)),
            ("POST", f"/runs/{run}/queues?preview=true", QUEUE),
            ("POST", f"/runs/{run}/queues", QUEUE),
            ("POST", f"/runs/{run}/reviews", REVIEW),
            ("PUT", f"/runs/{run}/annotations", ANNOTATIONS),
            ("GET", f"/runs/{HEALTHY}/compare/{run}", None),
        ]
        for method, path, body in asked:
            started = time.perf_counter()
            reply = self.request(method, path, json=body)
            yield f"{method} {path}", reply, time.perf_counter() - started

    def _outcome(self, run: str, kind: str, asked: str, reply: httpx.Response, seconds: float) -> str:
        assert seconds < MOST_SECONDS, f"{asked} took {seconds:.0f} s"
        assert reply.status_code < 500, f"{asked}: {reply.status_code} {reply.text}"
        if reply.status_code < 300:
            return "answered"
        problem = reply.json()
        if problem["code"] != "run_damaged":
            # A missing file is not noticed; a flipped digit may be another class, name or configuration.
            assert reply.status_code in (404, 409, 422), f"{asked}: {reply.text}"
            return problem["code"]
        assert problem["status"] == 409
        name = "/".join(kind.split("/")[1:]) or kind
        assert f"run {run} is damaged: " in problem["detail"]
        # DuckDB does not say in which file a damaged page header is.
        assert name in problem["detail"] or ": epochs has a file" in problem["detail"], problem["detail"]
        assert str(self.folder) not in problem["detail"], "the reply has a path of the machine"
        return "named"

    def _check_list(self, run: str) -> None:
        runs = {item["run"]: item for item in self.request("GET", "/runs").json()["runs"]}
        assert "reviews" in runs[HEALTHY]
        assert "reviews" in runs[SOURCE]
        assert run in runs
        assert self.request("GET", f"/runs/{HEALTHY}/diagnostics").status_code == 200


@contextmanager
def damaged_runs() -> Iterator[DamagedRuns]:
    """A service in this process with two healthy runs."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(device="cpu", data_dir=folder, log_level="error"))
        transport = httpx.ASGITransport(app=app)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60)
        try:
            with filled_runs(Path(folder), client) as runs:
                yield runs
        finally:
            app.state.service.close()


@contextmanager
def filled_runs(folder: Path, client: httpx.AsyncClient) -> Iterator[DamagedRuns]:
    """Two healthy runs of the service with this data directory and client."""
    runs = DamagedRuns(folder, client)
    try:
        for run in (SOURCE, HEALTHY):
            _fill(runs, run)
        yield runs
    finally:
        runs.close()


def _fill(runs: DamagedRuns, run: str) -> None:
    """Store batches, merged and single ones, a queue, and reviews and annotations, merged and single ones."""

    def send(method: str, path: str, body: Any) -> None:
        reply = runs.request(method, f"/runs/{run}{path}", json=body)
        assert reply.status_code == 201, reply.text

    send("PUT", "", DESCRIPTION)
    for epoch in range(2):
        for number in range(4):
            send("PUT", f"/epochs/{epoch}/batches/b{number}", batch(number, epoch))
    send("POST", "/queues", QUEUE)
    for number in range(2):
        send("POST", "/reviews", REVIEW)
        send("PUT", "/annotations", [ANNOTATIONS[number]])
    store = RunStore(open_files(str(runs.folder)), 1)
    snapshot = store.snapshot(run)
    merged_at_once, compaction.MERGED_AT_ONCE = compaction.MERGED_AT_ONCE, 2
    try:
        compact(store.epoch_folder(snapshot.root, 0))
        compact(store.review_folder(snapshot))
        compact(snapshot.annotations)
    finally:
        compaction.MERGED_AT_ONCE = merged_at_once
    send("POST", "/reviews", REVIEW)
    send("PUT", "/annotations", [ANNOTATIONS[0] | {"label": 1}])
