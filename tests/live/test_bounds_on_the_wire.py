"""Clients that do not read, do not send, or open many connections: others are served meanwhile and afterwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.contract.test_errors import check_problem
from tests.live.connection import request
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.test_operations import ROWS, begin, held_bytes, held_requests

# State of a TCP connection in Linux.
TCP_CLOSE = 7
QUEUE_SIZE, CONNECTIONS = 4, 20
# Of these, 127.0.0.1 may hold three places.
OTHER_CLIENT = "127.0.0.2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"queue_size": str(QUEUE_SIZE), "max_connections": str(CONNECTIONS), "write_timeout_s": "3"}
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


def test_files_that_nobody_reads(server: ServerProcess, client: httpx.Client, stack: ExitStack) -> None:
    connections = [connect(server, stack) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.sendall(b"GET /web/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    assert httpx.get(f"{server.url}/healthz", timeout=60).status_code == 200
    check_problem(httpx.get(f"{server.url}/runs", timeout=60), 503, "too_many_connections")
    wait_for(lambda: all(map(is_closed, connections)), "the connections are closed")
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
    connections = [connect(server, stack) for _ in range(QUEUE_SIZE)]
    for connection in connections:
        begin(connection, 1000, b"{")
    wait_for(lambda: held_requests(client) == 3, "one client has its share")
    problem = check_problem(client.post("/loss", json=ROWS), 429, "queue_full")
    assert "for this client" in problem["detail"]
    transport = httpx.HTTPTransport(local_address=OTHER_CLIENT)
    with httpx.Client(base_url=server.url, transport=transport) as other:
        assert other.post("/loss", json=ROWS).status_code == 200
    assert client.get("/runs").status_code == 200
    # The least rate ends them, long before body_timeout_s.
    wait_for(lambda: held_requests(client) == 0, "their places are free")
    assert connections[0].recv(12) == b"HTTP/1.1 408"
