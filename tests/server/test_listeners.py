"""The sockets on which a service listens, and what happens to connections that nobody takes."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from service.server.listeners import NO_ROOM_FOR_S, Door, bound, url_of

ADDRESSES = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


class Hall:
    """A door with what it needs, and the connections that were taken."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.taken: list[int] = []
        self.room = 0
        self.door = Door(self.selector, self.take)
        self.door.listeners = bound("127.0.0.1", 0)
        self.address = self.door.listeners[0].getsockname()

    def take(self, connection: socket.socket) -> bool:
        if len(self.taken) < self.room:
            self.taken.append(connection.getpeername()[1])
            return True
        return False

    def turn(self) -> int:
        """What can be read is; how many there were."""
        events = self.selector.select(0)
        for key, _ in events:
            key.data()
        return len(events)


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.door.close()
    made.selector.close()


def come(hall: Hall, count: int, stack: ExitStack) -> list[socket.socket]:
    return [stack.enter_context(socket.create_connection(hall.address, 30)) for _ in range(count)]


class TestBound:
    def test_all_addresses_of_a_name_have_one_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ADDRESSES)
        listeners = bound("localhost", 0)
        (port,) = {listener.getsockname()[1] for listener in listeners}
        # A machine may have no IPv6.
        urls = [f"http://[::1]:{port}", f"http://127.0.0.1:{port}"]
        assert [url_of(listener) for listener in listeners] == urls[-len(listeners) :]
        for listener in listeners:
            listener.close()

    def test_an_address_that_the_machine_does_not_have_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        elsewhere = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere, ADDRESSES[1]])
        (listener,) = bound("a-name", 0)
        with listener:
            assert listener.getsockname()[0] == "127.0.0.1"
            assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [elsewhere])
        with pytest.raises(OSError, match="assign") as caught:
            bound("a-name", 0)
        assert caught.value.errno == errno.EADDRNOTAVAIL

    def test_a_port_that_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
            bound("127.0.0.1", other.getsockname()[1])


class TestDoor:
    def test_it_takes_nothing_before_it_is_open(self, hall: Hall) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(hall.address, 30)
        assert hall.turn() == 0

    def test_who_is_taken_is_closed_here(self, hall: Hall) -> None:
        hall.door.open()
        hall.room = 3
        with ExitStack() as stack:
            callers = come(hall, 3, stack)
            hall.turn()
            assert hall.taken == [caller.getsockname()[1] for caller in callers]
            assert [caller.recv(1) for caller in callers] == [b""] * 3
        assert hall.door.sockets == hall.door.listeners
        assert hall.door.opens_at is None

    def test_where_nobody_takes_them_they_wait_in_turn(self, hall: Hall) -> None:
        hall.door.open()
        with ExitStack() as stack:
            callers = come(hall, 3, stack)
            ports = [caller.getsockname()[1] for caller in callers]
            assert hall.turn() == 1
            assert len(hall.door.sockets) == 2
            # No event turns the loop while it is shut.
            assert hall.turn() == 0
            for _ in range(3):
                assert hall.door.opens_at is not None
                assert hall.door.opens_at <= time.monotonic() + 1
                hall.door.open_again()
            assert hall.turn() == 0
            hall.room = 2
            hall.door.open_again()
            assert hall.door.opens_at is None
            hall.turn()
            assert hall.taken == ports[:2]
            hall.room = 3
            hall.door.open_again()
            assert hall.taken == ports

    def test_without_room_in_the_system_it_is_shut_for_a_while(
        self, hall: Hall, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hall.door.open()
        hall.room = 1
        accept = socket.socket.accept

        def failing(_: socket.socket) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        with ExitStack() as stack:
            come(hall, 1, stack)
            monkeypatch.setattr(socket.socket, "accept", failing)
            assert hall.turn() == 1
            assert hall.turn() == 0
            assert hall.door.opens_at is not None
            assert hall.door.opens_at > time.monotonic() + NO_ROOM_FOR_S / 2
            monkeypatch.setattr(socket.socket, "accept", accept)
            hall.door.open_again()
            assert hall.turn() == 1
            assert len(hall.taken) == 1

    def test_closed_it_lets_go_who_waits(self, hall: Hall) -> None:
        hall.door.open()
        with ExitStack() as stack:
            (caller,) = come(hall, 1, stack)
            hall.turn()
            hall.door.close()
            assert caller.recv(1) == b""
        assert hall.door.sockets == []
        assert hall.door.opens_at is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(hall.address, 30)

    def test_who_listens_already_is_told_of(self, hall: Hall) -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(hall.address)
            other.listen()
            with pytest.raises(OSError, match="in use"):
                hall.door.open()
