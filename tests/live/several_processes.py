"""Connections to a chosen worker of a service with several worker processes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from tests.live.server_process import ServerProcess
from tests.live.test_operations import ROWS, begin

CONTENT = json.dumps(ROWS).encode()
# The kernel distributes connections among the workers at random; with this many tries each worker gets one.
TRIES = 200


def holder(server: ServerProcess, port: int) -> int | None:
    """The worker that has the connection from this local port, or None."""
    ends = f":{server.port:04X} ", f":{port:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if ends[0] in line[:20] and ends[1] in line[19:35]:
            socket_name = f"socket:[{line.split()[9]}]"
            for pid in server.workers():
                with suppress(OSError):
                    for file in Path(f"/proc/{pid}/fd").iterdir():
                        with suppress(OSError):
                            if os.readlink(file) == socket_name:
                                return pid
    return None


@contextmanager
def through(server: ServerProcess, pid: int) -> Iterator[httpx.Client]:
    """A client with one connection, to this worker."""
    with ExitStack() as stack:
        for _ in range(TRIES):
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            stream = client.get("/healthz").extensions["network_stream"]
            if holder(server, stream.get_extra_info("client_addr")[1]) == pid:
                yield client
                return
        raise AssertionError(f"no connection came to process {pid} of {server.workers()}")


@contextmanager
def held_by(server: ServerProcess, pid: int) -> Iterator[socket.socket]:
    """A request to this worker of which the first byte of the body is sent; the caller sends the others."""
    with ExitStack() as stack:
        for _ in range(TRIES):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            if holder(server, connection.getsockname()[1]) == pid:
                begin(connection, len(CONTENT), CONTENT[:1])
                yield connection
                return
        raise AssertionError(f"no connection came to process {pid} of {server.workers()}")
