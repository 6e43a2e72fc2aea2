"""Clients of a service of several processes that know which of them answers."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from tests.live.server_process import ServerProcess, is_running, wait_for
from tests.live.test_operations import ROWS, half_sent, held_requests, read_reply

CONTENT = json.dumps(ROWS).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def holder(server: ServerProcess, port: int) -> int | None:
    """Which child has the connection that comes from this port of ours."""
    ends = f":{server.port:04X} ", f":{port:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if ends[0] in line[:20] and ends[1] in line[19:35]:
            wanted = f"socket:[{line.split()[9]}]"
            for pid in server.children():
                for file in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        if os.readlink(file) == wanted:
                            return pid
    return None


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """These processes do nothing in the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def port_of(connection: socket.socket) -> int:
    port: int = connection.getsockname()[1]
    return port


def connected(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


@contextmanager
def through(server: ServerProcess, pid: int) -> Iterator[httpx.Client]:
    """A client that this child answers; what others answer stays open, so that the child's turn comes."""
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            stream = client.get("/healthz").extensions["network_stream"]
            if holder(server, stream.get_extra_info("client_addr")[1]) == pid:
                yield client
                return
        raise AssertionError(f"no connection came to process {pid} of {server.children()}")


@contextmanager
def asked(server: ServerProcess, count: int) -> Iterator[list[socket.socket]]:
    """So many open connections that have been answered."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(connected(server)))
            connections[-1].sendall(HEALTH)
            assert read_reply(connections[-1])[0] == 200
        yield connections


@contextmanager
def held_by_each(server: ServerProcess) -> Iterator[dict[int, socket.socket]]:
    """A request whose body is not there yet in each child."""
    held: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(half_sent(server, len(CONTENT), CONTENT[:1]))
            with httpx.Client(base_url=server.url) as client:
                wait_for(lambda: holder(server, port_of(connection)), "the connection is held")  # noqa: B023
                client.get("/healthz")
            pid = holder(server, port_of(connection))
            assert pid is not None
            if pid in held:
                connection.close()
            held.setdefault(pid, connection)
            if len(held) == len(server.children()):
                break
        assert set(held) == set(server.children())
        with httpx.Client(base_url=server.url) as client:
            wait_for(lambda: held_requests(client) == len(held), "a request is held by each")
        yield held


def finish(connection: socket.socket) -> int:
    connection.sendall(CONTENT[1:])
    return read_reply(connection)[0]


def shares(server: ServerProcess, count: int) -> Counter[int | None]:
    with asked(server, count) as connections:
        return Counter(holder(server, port_of(connection)) for connection in connections)


def check_gone(children: list[int], temporary: Path) -> None:
    wait_for(lambda: not any(is_running(child) for child in children), "all processes end")
    assert list(temporary.glob("focal-loss-*")) == []
