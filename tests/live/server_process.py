"""A service in a process of its own, as a user runs it, on a free port of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

STARTS_WITHIN_S = 90.0
ENDS_WITHIN_S = 60.0


class ServerProcess:
    """One running `python -m service serve`, with all its processes.

    Args:
        process: The process of the command: the service, or the supervisor of its workers.
        url: Base URL of the service.
        log_path: File with its log, one JSON object per line.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
        self.process = process
        self.url = url
        self.log_path = log_path

    @property
    def data_dir(self) -> Path:
        """Data directory of the service, unless the settings name another."""
        return self.log_path.parent / "data"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> list[dict[str, Any]]:
        """All log lines so far."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def refuses_connections(self) -> bool:
        """True if no process listens on its port any more."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    def workers(self) -> list[int]:
        """The worker processes that the supervisor has started and that have not ended."""
        pid = self.process.pid
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        # Python's multiprocessing also starts a resource tracker.
        return [child for child in children if is_running(child) and b"spawn_main" in _command_line(child)]

    def memory_bytes(self) -> int:
        """Memory of all processes; pages that several of them share are counted once."""
        return sum(_proportional_bytes(pid) for pid in (self.process.pid, *self.workers()))


def is_running(pid: int) -> bool:
    """True if this process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _proportional_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def service_environment(**settings: str) -> dict[str, str]:
    """The environment of this process, with these settings of the service and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("FOCAL_LOSS_")}
    return others | {f"FOCAL_LOSS_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def running_server(tmp_path: Path, *options: str, **settings: str) -> Iterator[ServerProcess]:
    """Start a service, wait until it is ready, and end it after the block."""
    settings.setdefault("data_dir", str(tmp_path / "data"))
    # Each process takes seconds of a core to start; tests of several processes set the number.
    settings.setdefault("processes", "1")
    log_path = tmp_path / "service.log"
    command = [sys.executable, "-m", "service", "serve", "--port", "0", *options]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, env=service_environment(**settings))
    try:
        yield ServerProcess(process, _wait_until_ready(process, log_path), log_path)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(ENDS_WITHIN_S)


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        match = re.search(r"running on (http://\S+:\d+)", log_path.read_text())
        # With several processes the line comes before they listen.
        with suppress(httpx.TransportError):
            if match and httpx.get(f"{match[1]}/readyz").is_success:
                return match[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the service did not start (exit status {process.poll()}):\n{log_path.read_text()}")


def wait_for(condition: Any, what: str, within_s: float = 90.0) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.01)
