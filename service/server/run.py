"""Running the app under uvicorn, in one process or several, with a graceful end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from types import FrameType

import structlog
import uvicorn

from service.api.app import create_app
from service.api.state import Service
from service.codecs import json_numbers
from service.compute.device import resolve_device
from service.compute.siblings import CLOSED, Siblings
from service.logs import configure_logs
from service.loss.kernels import cpu as fused_cpu
from service.server.protocol import BoundedHttpProtocol, bounded_protocol
from service.server.shedding import Line, Shedding, room
from service.server.supervisor import Seat, Supervisor
from service.settings import Settings

MOST_PROCESSES = 4
CONNECTIONS_AT_ONCE = 16
# So long a child takes no connection after there was no file descriptor for one.
RESTS_FOR_S = 1.0

log = structlog.get_logger("service.server")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when all requests in flight are answered."""
    configure_logs(settings.log_level, settings.log_format)
    processes, seat = number_of_processes(settings), None
    if processes > 1:
        # Compiled once, before the processes part; so is the memory of all that is imported.
        fused_cpu.warm_up()
        json_numbers.warm_up()
        _freeze()
        seat = Supervisor(settings, processes).run()
    siblings = seat.siblings if seat else Siblings()
    app = create_app(settings, siblings)
    service: Service = app.state.service
    line = Line(partial(room, service))
    protocol = bounded_protocol(
        max_head_bytes=settings.max_head_bytes,
        head_timeout_s=settings.head_timeout_s,
        on_lost=partial(siblings.add, CLOSED, 1),
        refusal=Shedding(service),
        wait_for_place=line.wait,
        after_answer=line.after_answer,
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        http=protocol,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    log.info("starting", device=service.engine.device, keys=len(settings.api_keys))
    _freeze()
    DrainingServer(config, protocol, service, seat).run()


def number_of_processes(settings: Settings) -> int:
    """As the settings say, on Linux; CUDA has one by itself, since each process takes memory of the device."""
    # Elsewhere forking is not there or not safe.
    if sys.platform != "linux":
        return 1
    if settings.processes:
        return settings.processes
    if resolve_device(settings.device) != "cpu":
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def _freeze() -> None:
    # What stands now stands to the end. Walking it again and again stopped every request for a quarter of a second.
    gc.collect()
    gc.freeze()


class DrainingServer(uvicorn.Server):
    """Between SIGTERM and the end of accepting it answers as before while /readyz is 503, so that a balancer can
    take it out; a second signal, or SIGINT, ends accepting at once. The exit status is 0.
    To a child each SIGTERM is the first one; whether it was a second one, the first process says.

    Args:
        config: Of uvicorn.
        protocol: Its `http`.
        service: That it serves.
        seat: Where its connections come from, in a child; None: it listens itself.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        protocol: type[BoundedHttpProtocol],
        service: Service,
        seat: Seat | None = None,
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._service = service
        self._seat = seat
        self._stop_at: float | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._rests: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's start, or that of a child, which has nothing to listen on."""
        if self._seat is None:
            await super().startup(sockets)
            return
        await super().startup([])
        channel = self._seat.channel
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._take, channel)
        try:
            channel.send(b"r")
        except OSError:
            self._orphaned()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's end; a child is given no connection any more, but has those that it was given."""
        if self._seat is not None:
            channel = self._seat.channel
            # From here on the first process finds that it cannot send, and gives what comes to another child.
            channel.shutdown(socket.SHUT_RD)
            with suppress(BlockingIOError):
                while self._take_one(channel):
                    pass
            asyncio.get_running_loop().remove_reader(channel)
            if self._rests is not None:
                self._rests.cancel()
            if self._connecting:
                await asyncio.wait(self._connecting)
        await super().shutdown(sockets)

    def _take(self, channel: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(CONNECTIONS_AT_ONCE):
                if not self._take_one(channel):
                    self._orphaned()

    def _take_one(self, channel: socket.socket) -> bool:
        """A connection, if the channel is not at its end.

        Raises:
            BlockingIOError: None waits, or none can be had now.
        """
        message, files, _, _ = socket.recv_fds(channel, 1, 1)
        for file in files:
            task = asyncio.create_task(self._connect(socket.socket(fileno=file)))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        if message and not files:
            # The others wait in the channel. Were they lost at once, this child would have the fewest, and get all.
            log.warning("a connection was lost: no file descriptor is left for it")
            self._protocol.on_lost()
            self._rest(channel)
            raise BlockingIOError
        return bool(message)

    def _rest(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(channel)
        self._rests = loop.call_later(RESTS_FOR_S, loop.add_reader, channel, self._take, channel)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        made = partial(
            self._protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(made, connection)
        except OSError:
            connection.close()
            self._protocol.on_lost()

    def _orphaned(self) -> None:
        """The first process was killed, and with it the service."""
        self._service.siblings.remove_sockets()
        os._exit(1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of SIGTERM and SIGINT."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif sig == signal.SIGINT or (self._service.draining and self._seat is None):
            self.should_exit = True
        elif self._stop_at is None:
            self._stop_at = time.monotonic() + self._service.settings.drain_delay_s
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's main loop, ten times a second: True ends it."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)
