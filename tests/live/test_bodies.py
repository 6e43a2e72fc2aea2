"""The body of a request on its way from the socket to the loss: cut anywhere, large, late, broken off."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.contract.test_errors import SAFETENSORS, check_problem
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.test_operations import ROWS, held_requests

MB = 1_000_000


def body_of(rows: int, classes: int = 10, seed: int = 0) -> tuple[bytes, float]:
    """A safetensors body, and its loss by the formula in float64."""
    rng = np.random.default_rng(seed)
    logits, targets = rng.standard_normal((rows, classes), dtype=np.float32), rng.integers(0, classes, rows)
    at_target = logits[np.arange(rows), targets].astype(np.float64)
    cross_entropy = np.log(np.exp(logits).sum(1, dtype=np.float64)) - at_target
    loss = (1 - np.exp(-cross_entropy)) ** 2 * cross_entropy
    return save({"logits": logits, "targets": targets}), float(loss.mean())


SMALL, LARGE = body_of(20), body_of(100_000)


def head(length: int, *headers: str) -> bytes:
    lines = ["POST /loss HTTP/1.1", "Host: x", f"Content-Type: {SAFETENSORS['Content-Type']}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *headers, "", ""]).encode()


def request(body: bytes) -> bytes:
    return head(len(body)) + body


class Connection:
    """A raw connection that reads its replies in their order."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def reply(self) -> tuple[int, bytes]:
        status = int(self._file.readline().split()[1])
        lines = iter(lambda: self._file.readline().decode().strip().lower(), "")
        headers = dict(line.split(": ", 1) for line in lines)
        return status, self._file.read(int(headers.get("content-length", "0")))

    def check(self, expected: tuple[bytes, float]) -> None:
        status, content = self.reply()
        assert status == 200, content
        assert float(load(content)["loss"]) == pytest.approx(expected[1], rel=1e-5)

    def at_end(self) -> bool:
        return self._file.read(1) == b""


@pytest.mark.parametrize(
    "cuts",
    [
        [10],
        [len(head(len(LARGE[0])))],
        [len(head(len(LARGE[0]))) + 1],
        [-1],
        [-3, -2, -1],
        [16 * 1024, 16 * 1024 + 1],
        [256 * 1024, 1024 * 1024],
    ],
)
def test_a_body_cut_anywhere(server: ServerProcess, cuts: list[int]) -> None:
    sent = request(LARGE[0])
    with Connection(server) as connection:
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            connection.socket.sendall(sent[start:end])
        connection.check(LARGE)


def test_large_and_small_in_turn_on_one_connection(server: ServerProcess) -> None:
    with Connection(server) as connection:
        for body in (LARGE, SMALL, LARGE, LARGE, SMALL, SMALL, LARGE):
            connection.socket.sendall(request(body[0]))
            connection.check(body)


@pytest.mark.parametrize("bodies", [(LARGE, SMALL), (SMALL, LARGE, SMALL), (LARGE, LARGE)])
def test_the_next_request_right_behind_a_body(server: ServerProcess, bodies: tuple[tuple[bytes, float], ...]) -> None:
    with Connection(server) as connection:
        sent = b"".join(request(body[0]) for body in bodies)
        sender = threading.Thread(target=connection.socket.sendall, args=(sent,))
        sender.start()
        for body in bodies:
            connection.check(body)
        sender.join(60)


def test_bodies_of_two_clients_do_not_mix(server: ServerProcess) -> None:
    bodies = [body_of(100_000, seed=seed) for seed in (1, 2)]
    sent = [request(body[0]) for body in bodies]
    step = 100_000
    with Connection(server) as one, Connection(server) as other:
        for _ in range(3):
            for start in range(0, len(sent[0]), step):
                for connection, whole in zip((one, other), sent, strict=True):
                    connection.socket.sendall(whole[start : start + step])
            for connection, body in zip((one, other), bodies, strict=True):
                connection.check(body)


def test_a_client_that_waits_to_be_told_to_go_on(server: ServerProcess) -> None:
    with Connection(server) as connection:
        for body in (LARGE, SMALL):
            connection.socket.sendall(head(len(body[0]), "Expect: 100-continue"))
            assert connection.reply() == (100, b"")
            connection.socket.sendall(body[0])
            connection.check(body)


def test_chunks_of_a_large_body(client: httpx.Client) -> None:
    body, loss = LARGE
    parts = iter(body[start : start + 70_000] for start in range(0, len(body), 70_000))
    reply = client.post("/loss", content=parts, headers=SAFETENSORS)
    assert float(load(reply.content)["loss"]) == pytest.approx(loss, rel=1e-5)


def test_a_client_that_leaves_in_the_middle(server: ServerProcess, client: httpx.Client) -> None:
    sent = request(LARGE[0])
    for size in (len(head(len(LARGE[0]))), 20_000, len(sent) // 2, len(sent) - 1):
        with Connection(server) as connection:
            connection.socket.sendall(sent[:size])
            wait_for(lambda: held_requests(client) == 1, "the request is held")
        wait_for(lambda: held_requests(client) == 0, "its place is free")
    assert client.post("/loss", content=LARGE[0], headers=SAFETENSORS).status_code == 200


def test_a_client_that_sends_less_than_it_announced(server: ServerProcess, client: httpx.Client) -> None:
    with Connection(server) as connection:
        connection.socket.sendall(request(LARGE[0])[:-1])
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.at_end()
    wait_for(lambda: held_requests(client) == 0, "its place is free")


def test_a_large_body_that_stops_arriving(tmp_path: Path) -> None:
    with running_server(tmp_path, body_timeout_s="0.5") as server, httpx.Client(base_url=server.url) as client:
        with Connection(server) as connection:
            connection.socket.sendall(request(LARGE[0])[: 2 * MB])
            status, content = connection.reply()
            assert (status, json.loads(content)["code"]) == (408, "body_timeout")
            assert connection.at_end()
        assert held_requests(client) == 0
        assert client.post("/loss", content=LARGE[0], headers=SAFETENSORS).status_code == 200


def test_a_large_body_that_is_not_wanted(tmp_path: Path) -> None:
    limits = {"max_body_bytes": str(MB), "max_queued_bytes": str(MB)}
    with running_server(tmp_path, **limits) as server, Connection(server) as connection:
        before = server.memory_bytes()
        connection.socket.sendall(head(40 * MB))
        status, content = connection.reply()
        assert (status, json.loads(content)["code"]) == (413, "body_too_large")
        # The connection goes on behind what was sent nevertheless.
        for _ in range(40):
            connection.socket.sendall(bytes(MB))
        connection.socket.sendall(request(SMALL[0]))
        connection.check(SMALL)
        assert server.memory_bytes() - before < 20 * MB


def test_a_large_body_on_its_way_when_sigterm_comes_is_answered(tmp_path: Path) -> None:
    with running_server(tmp_path, drain_delay_s="0") as server, Connection(server) as connection:
        sent = request(LARGE[0])
        connection.socket.sendall(sent[: 2 * MB])
        with httpx.Client(base_url=server.url) as client:
            wait_for(lambda: held_requests(client) == 1, "the request is held")
        server.process.send_signal(signal.SIGTERM)

        wait_for(server.refuses_connections, "no new connection is taken")
        connection.socket.sendall(sent[2 * MB :])
        connection.check(LARGE)
        assert connection.at_end()
        assert server.process.wait(30) == 0


def resident_bytes(server: ServerProcess, field: str) -> int:
    """What the kernel says of the first process: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def test_a_large_body_takes_its_own_memory_once(tmp_path: Path) -> None:
    body, loss = body_of(50_000, classes=1000)
    # One worker, and warm: what malloc keeps of the computation's memory for each thread is not the body's. One
    # process: the kernel's mark of the peak is one process's.
    with (
        running_server(tmp_path, processes="1", workers="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for _ in range(6):
            client.post("/loss", content=body_of(5_000, classes=1000)[0], headers=SAFETENSORS).raise_for_status()
        before = resident_bytes(server, "VmRSS")
        for _ in range(3):
            reply = client.post("/loss", content=body, headers=SAFETENSORS)
            assert float(load(reply.content)["loss"]) == pytest.approx(loss, rel=1e-5)
        assert resident_bytes(server, "VmHWM") - before < 1.3 * len(body)
        assert resident_bytes(server, "VmRSS") - before < 1.3 * len(body)


def test_memory_that_is_only_announced_is_not_taken(server: ServerProcess, client: httpx.Client) -> None:
    before = server.memory_bytes()
    connections: list[Any] = []
    try:
        for _ in range(4):
            connections.append(Connection(server))
            connections[-1].socket.sendall(head(250 * MB) + bytes(1000))
        wait_for(lambda: held_requests(client) == 4, "four requests are held")
        check_problem(client.post("/loss", content=bytes(100 * MB), headers=SAFETENSORS), 429, "queue_full")
        assert server.memory_bytes() - before < 100 * MB
    finally:
        for connection in connections:
            connection.socket.close()
            connection.__exit__()
    wait_for(lambda: held_requests(client) == 0, "their places are free")
    assert client.post("/loss", json=ROWS).status_code == 200
