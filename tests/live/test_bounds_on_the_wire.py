"""Clients that read or send too slowly, ask for too much, or open many connections: others are served meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.contract.test_errors import check_problem
from tests.live.connection import request
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.test_operations import ROWS, begin, held_bytes, held_requests, read_reply

# State of a TCP connection in Linux.
TCP_CLOSE = 7
QUEUE_SIZE, CONNECTIONS = 4, 20
# A body of this size at a few bytes for each poll of `wait_for` is slower than min_bytes_per_s, at 200 it is faster.
SLOW_BODY, STEADY_BYTES = json.dumps(ROWS).encode().ljust(100_000), 200
# Of these, 127.0.0.1 may hold three places.
OTHER_CLIENT = "127.0.0.2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"queue_size": str(QUEUE_SIZE), "max_connections": str(CONNECTIONS), "write_timeout_s": "3"}
    # Less than any query takes.
    settings["query_timeout_s"] = "0.0001"
    with running_server(tmp_path_factory.mktemp("wire"), processes="1", **settings) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as connected:
        yield connected


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: ServerProcess, stack: ExitStack, source: str = "127.0.0.1") -> socket.socket:
    connection = stack.enter_context(socket.socket())
    # The kernel shall hold little of a reply.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", server.port))
    return connection


def is_closed(connection: socket.socket) -> bool:
    """True if the service has reset the connection."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == bytes([TCP_CLOSE])


def test_files_that_are_read_too_slowly(server: ServerProcess, client: httpx.Client, stack: ExitStack) -> None:
    connections = [connect(server, stack) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.sendall(b"GET /web/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    assert httpx.get(f"{server.url}/healthz", timeout=60).status_code == 200
    check_problem(httpx.get(f"{server.url}/runs", timeout=60), 503, "too_many_connections")
    slow, steady, *_ = connections

    def others_are_closed() -> bool:
        with suppress(ConnectionResetError):
            slow.recv(1)
        assert steady.recv(4096)
        return all(is_closed(connection) for connection in connections if connection is not steady)

    wait_for(others_are_closed, "the connections are closed")
    assert not is_closed(steady)
    assert client.get("/runs").status_code == 200


def test_replies_that_nobody_reads_count_until_they_are_closed(
    server: ServerProcess, client: httpx.Client, stack: ExitStack
) -> None:
    tensors = {"logits": np.zeros((500_000, 2), np.float32), "targets": np.zeros(500_000, np.int64)}
    body = save(tensors, {"request": '{"outputs": ["loss", "p_t", "entropy"]}'})
    connection = connect(server, stack)
    connection.sendall(request(body))
    wait_for(lambda: held_requests(client) == 0 and held_bytes(client) > 5_000_000, "the reply is held")
    wait_for(lambda: held_bytes(client) == 0, "the reply is dropped")
    assert is_closed(connection)


def test_slow_bodies_leave_places_for_other_clients_and_questions(
    server: ServerProcess, client: httpx.Client, stack: ExitStack
) -> None:
    stalled, slow, steady = (connect(server, stack) for _ in range(3))
    for connection in (stalled, slow, steady):
        begin(connection, len(SLOW_BODY), SLOW_BODY[:1])
    wait_for(lambda: held_requests(client) == 3, "one client has its share")
    problem = check_problem(client.post("/loss", json=ROWS), 429, "queue_full")
    assert "for this client" in problem["detail"]
    transport = httpx.HTTPTransport(local_address=OTHER_CLIENT)
    with httpx.Client(base_url=server.url, transport=transport) as other:
        assert other.post("/loss", json=ROWS).status_code == 200
    assert client.get("/runs").status_code == 200
    unsent = SLOW_BODY[1:]

    def only_the_steady_one_is_held() -> bool:
        nonlocal unsent
        steady.sendall(unsent[:STEADY_BYTES])
        unsent = unsent[STEADY_BYTES:]
        with suppress(OSError):
            slow.send(b" ")
        return held_requests(client) == 1

    # The least rate ends the others, long before body_timeout_s.
    wait_for(only_the_steady_one_is_held, "their places are free")
    for connection in (stalled, slow):
        status, _, problem = read_reply(connection)
        assert (status, problem["code"]) == (408, "body_timeout")
    steady.sendall(unsent)
    assert read_reply(steady)[0] == 200


def test_a_query_over_its_time_gets_503(client: httpx.Client) -> None:
    client.put("/runs/r", json={}).raise_for_status()
    client.put("/runs/r/epochs/0/batches/b", json=ROWS | {"ids": ["a", "b"]}).raise_for_status()
    for question in ("diagnostics", "examples", "examples/a", "dynamics", "export?format=csv"):
        reply = client.get(f"/runs/r/{question}")
        check_problem(reply, 503, "query_timeout")
        assert int(reply.headers["retry-after"]) >= 1
    # The time is that of queries only.
    assert client.get("/runs/r").json()["num_rows"] == 2
    assert client.post("/loss", json=ROWS).status_code == 200
