"""A service process for the demos, and their runs in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.client import LossClient, RunClient


@contextmanager
def running_service() -> Iterator[str]:
    """Run a service process on a free port, with the default settings, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with Path(os.devnull).open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start (exit status {process.poll()})")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def create_run(client: LossClient, name: str, **description: Any) -> RunClient:
    """Create a run, after deleting that of an earlier demo with its verdicts."""
    if name in [run["run"] for run in client.runs()]:
        client.run(name).delete()
    return client.put_run(name, **description)
