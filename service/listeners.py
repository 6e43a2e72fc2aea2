"""The sockets on which a service listens."""

from __future__ import annotations

import errno
import socket
from typing import Any

# A name may stand for addresses that the machine does not have, as `localhost` often does for ::1.
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


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
