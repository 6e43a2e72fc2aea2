"""Several processes behind one port: the first one listens, and gives each connection to one of its children.

One interpreter computes on one core at a time, however many threads it has. With a listener of their own the children
would share connections by chance, and connections that wait would be lost with their process; so one process takes
them all, and gives each to the child that has the fewest.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from service.compute.siblings import CLOSED, Counts, Siblings, folder_for_sockets
from service.server.listeners import Door, bound, url_of
from service.settings import Settings

START_FAILED = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# So long after the start of one that died its place stays empty.
STARTS_AGAIN_AFTER_S = 1.0

log = structlog.get_logger("service.server.supervisor")


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
        self._door = Door(self._selector, self._give)
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
        self._prepare()
        woken, wakes = socket.socketpair()
        for end in (woken, wakes):
            end.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, partial(self._signalled, woken))
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for kind in (*SIGNALS, signal.SIGCHLD):
            # The byte that wakes says which: a handler would run amid anything.
            signal.signal(kind, lambda *_: None)
        while self._children or self._vacant:
            now = time.monotonic()
            for number in [number for number, when in self._vacant.items() if when <= now]:
                self._fill(number)
            if self._accepts_until is not None and self._accepts_until <= now:
                self._door.close()
            if self._door.opens_at is not None and self._door.opens_at <= now:
                self._door.open_again()
            times = [self._door.opens_at, self._accepts_until if self._door.listeners else None, *self._vacant.values()]
            due = min((when for when in times if when is not None), default=None)
            for key, _ in self._selector.select(None if due is None else max(0.0, due - time.monotonic())):
                key.data()

    def _prepare(self) -> None:
        try:
            self._door.listeners = bound(self._settings.host, self._settings.port)
        except OSError as err:
            self._cannot_listen(err)
            sys.exit(START_FAILED)
        try:
            self._folder = folder_for_sockets()
        except OSError as err:
            log.error("no folder for the sockets of the processes", error=str(err))  # noqa: TRY400
            sys.exit(START_FAILED)

    def _fill(self, number: int) -> None:
        del self._vacant[number]
        try:
            self._start(number)
        except OSError as err:
            log.error("a process was not started", process=number, error=str(err))  # noqa: TRY400
            if self._serves:
                self._vacant[number] = time.monotonic() + STARTS_AGAIN_AFTER_S
            else:
                self._status = START_FAILED
                self._pass_on(signal.SIGINT)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A signal that comes now is for the parent, which the child would wake.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for kind in SIGNALS:
                # Not an exception, which what is at work just then may keep to itself.
                signal.signal(kind, lambda *_: os._exit(0))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A terminal's Ctrl-C is for the first process alone.
            os.setpgrp()
            self._selector.close()
            for other in (ours, *self._door.sockets, *(child.channel for child in self._children.values())):
                other.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise _BornError(Seat(Siblings(number, self._counts, self._folder, self._processes), theirs))
        theirs.close()
        ours.setblocking(False)
        self._children[number] = _Child(pid, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, number))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _signalled(self, woken: socket.socket) -> None:
        for kind in woken.recv(4096):
            if kind == signal.SIGCHLD:
                self._bury_the_dead()
            else:
                self._pass_on(kind)

    def _hear(self, number: int) -> None:
        """A child is ready, or ends."""
        child = self._children[number]
        try:
            heard = child.channel.recv(1)
        except OSError:
            heard = b""
        child.ready = bool(heard)
        if not heard:
            # It may still take a while to end, which SIGCHLD tells.
            self._selector.unregister(child.channel)
        elif self._serves or self._ends:
            return
        elif number + 1 < self._processes:
            self._vacant[number + 1] = 0
        else:
            self._listen()

    def _listen(self) -> None:
        try:
            self._door.open()
        except OSError as err:
            self._cannot_listen(err)
            self._status = START_FAILED
            self._pass_on(signal.SIGINT)
            return
        self._serves = True
        log.info(f"running on {url_of(self._door.listeners[0])}", processes=self._processes)

    def _cannot_listen(self, err: OSError) -> None:
        log.error("cannot listen", host=self._settings.host, port=self._settings.port, error=str(err.strerror).lower())

    def _bury_the_dead(self) -> None:
        for number, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._bury(number, os.waitstatus_to_exitcode(status))

    def _bury(self, number: int, status: int) -> None:
        child = self._children.pop(number)
        if child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)
        child.channel.close()
        self._counts.forget(number)
        if self._serves and not self._ends:
            log.error("a process ended and is started again", process=number, pid=child.pid, status=status)
            self._vacant[number] = child.started_at + STARTS_AGAIN_AFTER_S
            return
        self._status = self._status or abs(status)
        if not self._ends:
            self._pass_on(signal.SIGINT)

    def _pass_on(self, kind: int) -> None:
        """SIGTERM lets the children be taken out of a balancer first; a second one, or SIGINT, ends accepting."""
        now = time.monotonic()
        if kind == signal.SIGTERM and self._ends:
            if self._accepts_until is None or self._accepts_until <= now:
                return
            # To a child two of one kind are one, since who ends a service may tell all of its processes.
            kind = signal.SIGINT
        self._ends = True
        self._vacant.clear()
        self._accepts_until = now + (self._settings.drain_delay_s if kind == signal.SIGTERM else 0)
        for child in self._children.values():
            os.kill(child.pid, kind)

    def _give(self, connection: socket.socket) -> bool:
        """To the child with the fewest connections, or the next one where it takes none; whether one took it."""
        for number in sorted((number for number, child in self._children.items() if child.ready), key=self._open):
            try:
                socket.send_fds(self._children[number].channel, [b"c"], [connection.fileno()])
            except OSError:
                continue  # its channel is full, or it ends
            self._children[number].given += 1
            return True
        return False

    def _open(self, number: int) -> int:
        return self._children[number].given - self._counts.of(number, CLOSED)
