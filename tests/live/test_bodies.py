"""Memory of bodies that the kernel writes directly into their buffers (`direct_body`)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.contract.test_errors import SAFETENSORS, check_problem
from tests.live.connection import Connection, LossBody, loss_headers
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.test_operations import ROWS, held_requests

MB = 1_000_000


def resident_bytes(server: ServerProcess, field: str) -> int:
    """Memory of the first process as the kernel counts it: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def test_a_large_body_takes_its_own_memory_once(tmp_path: Path) -> None:
    body = LossBody.of(50_000, classes=1000)
    # One thread, after some requests: malloc keeps memory of the computation for each thread, which does not belong to
    # the body. One process: the kernel records the peak of a single process.
    with (
        running_server(tmp_path, processes="1", workers="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for _ in range(6):
            small = LossBody.of(5_000, classes=1000)
            client.post("/loss", content=small.content, headers=SAFETENSORS).raise_for_status()
        before = resident_bytes(server, "VmRSS")
        for _ in range(3):
            body.check(client.post("/loss", content=body.content, headers=SAFETENSORS).content)
        assert resident_bytes(server, "VmHWM") - before < 1.3 * len(body.content)
        assert resident_bytes(server, "VmRSS") - before < 1.3 * len(body.content)


def test_a_declared_length_takes_no_memory_before_the_body_arrives(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, processes="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ExitStack() as stack,
    ):
        before = server.memory_bytes()
        # One client holds at most three quarters of max_queued_bytes.
        connections = [stack.enter_context(Connection(server)) for _ in range(3)]
        for connection in connections:
            connection.send(loss_headers(f"Content-Length: {250 * MB}") + bytes(1000))
        wait_for(lambda: held_requests(client) == 3, "three requests are held")
        check_problem(client.post("/loss", content=bytes(100 * MB), headers=SAFETENSORS), 429, "queue_full")
        assert server.memory_bytes() - before < 100 * MB
        for connection in connections:
            connection.__exit__()
        wait_for(lambda: held_requests(client) == 0, "their places are free")
        assert client.post("/loss", json=ROWS).status_code == 200
