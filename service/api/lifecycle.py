"""Shutdown of a service process: draining after SIGTERM, and exit when the parent process has exited."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from service.api.state import Service


@contextmanager
def drains_before_exit(service: Service) -> Iterator[None]:
    """For `drain_delay_s` after the first SIGTERM, keep accepting requests while /readyz is 503.

    A load balancer can then take the process out before connections are refused. A second SIGTERM, or SIGINT, stops
    accepting immediately. Works with any server that handles SIGTERM and starts the app in its main thread.
    """
    stop = signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None
    if not callable(stop):
        yield
        return
    loop = asyncio.get_running_loop()

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        delay_s = 0.0 if service.draining else service.settings.drain_delay_s
        service.draining = True
        # A signal handler may interrupt the loop's own code.
        loop.call_soon_threadsafe(loop.call_later, delay_s, stop, number, None)

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)


@contextmanager
def exits_with_parent() -> Iterator[None]:
    """Shut down as after SIGTERM when the parent process has exited: uvicorn's workers would keep serving."""
    parent = multiprocessing.parent_process()
    if parent is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def on_exit() -> None:
        loop.remove_reader(parent.sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, on_exit)
    try:
        yield
    finally:
        loop.remove_reader(parent.sentinel)
