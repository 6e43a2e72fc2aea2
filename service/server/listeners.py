"""The sockets on which a service listens."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

BACKLOG, ACCEPTED_AT_ONCE = 2048, 64
# So long a door is shut where nobody takes a connection, and where the system has no room for one.
FULL_FOR_S, NO_ROOM_FOR_S = 0.01, 1.0
# A name may stand for addresses that the machine does not have, as `localhost` often does for ::1.
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

log = structlog.get_logger("service.server.listeners")


class Door:
    """Accepts connections and gives them away; while nobody takes them they wait in the system's own queue.

    Args:
        selector: Calls the data of what can be read.
        give: Whether somebody took the connection, which is closed here then.

    Attributes:
        listeners: From `bound`.
        opens_at: When to call `open_again`, by the monotonic clock; None: no need to.
    """

    def __init__(self, selector: selectors.BaseSelector, give: Callable[[socket.socket], bool]) -> None:
        self.listeners: list[socket.socket] = []
        self.opens_at: float | None = None
        self._selector = selector
        self._give = give
        self._waiting: socket.socket | None = None

    @property
    def sockets(self) -> list[socket.socket]:
        """All that it holds."""
        return [*self.listeners, *([] if self._waiting is None else [self._waiting])]

    def open(self) -> None:
        """Accept from here on.

        Raises:
            OSError: Somebody else listens. Who does not listen yet shares the port with others of that kind.
        """
        for listener in self.listeners:
            listener.listen(BACKLOG)
        self._watch()

    def open_again(self) -> None:
        """Try once more."""
        if self._waiting is not None and not self._gave(self._waiting):
            self.opens_at = time.monotonic() + FULL_FOR_S
            return
        self._waiting = self.opens_at = None
        self._watch()

    def close(self) -> None:
        """Accept no more."""
        self._unwatch()
        for held in self.sockets:
            held.close()
        self.listeners, self._waiting, self.opens_at = [], None, None

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            # The other listener may have found that there is no room.
            if self.opens_at is not None:
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as err:
                log.warning("a connection was not accepted", error=type(err).__name__, text=err.strerror)
                self._shut(NO_ROOM_FOR_S)
                return
            if not self._gave(connection):
                self._waiting = connection
                self._shut(FULL_FOR_S)

    def _gave(self, connection: socket.socket) -> bool:
        given = self._give(connection)
        if given:
            connection.close()
        return given

    def _shut(self, seconds: float) -> None:
        self.opens_at = time.monotonic() + seconds
        self._unwatch()

    def _watch(self) -> None:
        for listener in self.listeners:
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))

    def _unwatch(self) -> None:
        for listener in self.listeners:
            if listener in self._selector.get_map():
                self._selector.unregister(listener)


def bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of a host that this machine has, all with one port; they do not listen yet.

    Args:
        host: A name or an address.
        port: 0 takes a free one.

    Raises:
        OSError: There is no such host, the machine has none of its addresses, or the port of one is taken.
    """
    made: list[socket.socket] = []
    missing: OSError | None = None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            made.append(_bound_to(family, (address[0], port, *address[2:])))
            port = made[-1].getsockname()[1]
        except OSError as err:
            if err.errno not in NOT_HERE:
                for listener in made:
                    listener.close()
                raise
            missing = err
    if missing is not None and not made:
        raise missing
    return made


def url_of(listener: socket.socket) -> str:
    """Where a client finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bound_to(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
