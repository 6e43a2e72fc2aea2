"""Several processes behind one port: the first one listens, and gives each connection to one of its children.

One interpreter computes on one core at a time, however many threads it has. With a listener of their own the children
would share connections by chance, and connections that wait would be lost with their process; so one process takes
them all, and gives each to the child that has the fewest.
"""

from __future__ import annotations

import os
import select
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import structlog

from service.settings import Settings
from service.siblings import CLOSED, Counts, Siblings

BACKLOG, ACCEPTED_AT_ONCE = 2048, 64
START_FAILED = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# So long after the start of one that died its place stays empty.
STARTS_AGAIN_AFTER_S = 1.0

log = structlog.get_logger("service.supervisor")


@dataclass(frozen=True)
class Seat:
    """What makes a process a child.

    Args:
        siblings: It and the others.
        channel: Brings connections, each a message of one byte with the file descriptor; at its end the first process
            is gone. A byte the other way says that the child is ready.
    """

    siblings: Siblings
    channel: socket.socket


@dataclass
class _Child:
    pid: int
    channel: socket.socket
    started_at: float
    given: int = 0
    ready: bool = False


class _BornError(Exception):
    """Leads a new process out of what its parent was doing."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat


class Supervisor:
    """The first process: starts the others, starts one again that dies, and passes signals on.

    Args:
        settings: `host`, `port` and `drain_delay_s` count here.
        processes: Children, >= 2.
    """

    def __init__(self, settings: Settings, processes: int) -> None:
        self._settings = settings
        self._processes = processes
        self._counts = Counts(processes)
        self._folder = Path()
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._children: dict[int, _Child] = {}
        # Children to start, and when. Each of the first ones waits for the one before, so that a fault is told once.
        self._vacant = {0: 0.0}
        self._accepts_until: float | None = None
        self._serves = self._ends = False
        self._status = 0

    def run(self) -> Seat:
        """Supervise until all children have ended; returns in each child.

        Raises:
            SystemExit: In the first process, with the status of a child that failed, else 0.
        """
        try:
            self._supervise()
        except _BornError as born:
            return born.seat
        shutil.rmtree(self._folder, ignore_errors=True)
        sys.exit(self._status)

    def _supervise(self) -> None:
        self._listeners = _bound(self._settings.host, self._settings.port)
        self._folder = Path(tempfile.mkdtemp(prefix="focal-loss-"))
        woken, wakes = socket.socketpair()
        for end in (woken, wakes):
            end.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, partial(woken.recv, 4096))
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for kind in SIGNALS:
            signal.signal(kind, self._pass_on)
        while self._children or self._vacant:
            now = time.monotonic()
            for number in [number for number, when in self._vacant.items() if when <= now]:
                del self._vacant[number]
                self._start(number)
            if self._accepts_until is not None and self._accepts_until <= now:
                self._close_listeners()
            due = [*self._vacant.values(), *filter(None, [self._accepts_until if self._listeners else None])]
            for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
                key.data()

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A signal that comes now is for the parent, whose handler the child would run.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for kind in SIGNALS:
                signal.signal(kind, lambda *_: sys.exit(0))
            # A terminal's Ctrl-C is for the first process alone.
            os.setpgrp()
            self._selector.close()
            for other in (ours, *self._listeners, *(child.channel for child in self._children.values())):
                other.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise _BornError(Seat(Siblings(number, self._counts, self._folder, self._processes), theirs))
        theirs.close()
        ours.setblocking(False)
        self._children[number] = _Child(pid, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, number))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _hear(self, number: int) -> None:
        """A child is ready, or has ended."""
        child = self._children[number]
        try:
            ready = child.channel.recv(1)
        except OSError:
            ready = b""
        if not ready:
            self._bury(number)
            return
        child.ready = True
        if self._serves or self._ends:
            return
        if number + 1 < self._processes:
            self._vacant[number + 1] = 0
            return
        self._serves = True
        for listener in self._listeners:
            listener.listen(BACKLOG)
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
        log.info(f"running on {_url(self._listeners[0])}", processes=self._processes)

    def _bury(self, number: int) -> None:
        child = self._children.pop(number)
        self._selector.unregister(child.channel)
        child.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        self._counts.forget(number)
        if self._serves and not self._ends:
            log.error("a process ended and is started again", process=number, pid=child.pid, status=status)
            self._vacant[number] = child.started_at + STARTS_AGAIN_AFTER_S
            return
        self._status = self._status or abs(status)
        if not self._ends:
            self._pass_on(signal.SIGTERM, None)

    def _pass_on(self, kind: int, frame: FrameType | None) -> None:
        """SIGTERM lets the children be taken out of a balancer first; a second signal, or SIGINT, ends accepting."""
        delay_s = 0 if self._ends or kind == signal.SIGINT else self._settings.drain_delay_s
        self._ends = True
        self._vacant.clear()
        self._accepts_until = time.monotonic() + delay_s
        for child in self._children.values():
            os.kill(child.pid, kind)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as err:
                log.warning("a connection was not accepted", error=type(err).__name__, text=err.strerror)
                return
            with connection:
                self._give(connection)

    def _give(self, connection: socket.socket) -> None:
        """To the child with the fewest connections, or the next one where its channel is full."""
        while ready := {number: child for number, child in self._children.items() if child.ready}:
            for number in sorted(ready, key=self._open):
                try:
                    socket.send_fds(ready[number].channel, [b"c"], [connection.fileno()])
                except OSError:
                    continue  # full, or its process has ended
                ready[number].given += 1
                return
            select.select([], [child.channel for child in ready.values()], [], 1)

    def _open(self, number: int) -> int:
        return self._children[number].given - self._counts.of(number, CLOSED)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if self._serves:
                self._selector.unregister(listener)
            listener.close()
        self._listeners = []


def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, all with one port.

    Raises:
        SystemExit: None can be had.
    """
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            listener = socket.socket(family)
            listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = listener.getsockname()[1]
    except OSError as err:
        log.error("cannot listen", host=host, port=port, error=str(err))  # noqa: TRY400
        sys.exit(START_FAILED)
    return listeners


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
