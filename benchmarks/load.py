"""Load by wrk, a generator outside Python. Each client has one request in progress."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")


class LoadError(Exception):
    """wrk could not load a server, or the server did not reply."""


@dataclass(frozen=True)
class Load:
    """The result of one run of wrk.

    Args:
        seconds: Duration of the run.
        requests: Number of replies of any status.
        refused: Number of replies that are neither 2xx nor 3xx.
        broken: Number of connections that failed, broke, or timed out.
        p50_ms: Median time of a request.
        p99_ms: 99th percentile of the time of a request.
        statuses: Number of replies by status, if they were counted.
    """

    seconds: float
    requests: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    statuses: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Successful replies per second."""
        return (self.requests - self.refused) / self.seconds


def parse(output: str) -> Load:
    """Read the line that `load.lua` prints.

    Raises:
        LoadError: The output has no such line.
    """
    line = re.search(r"^load (\{.*\})$", output, re.MULTILINE)
    if line is None:
        raise LoadError(f"wrk printed no result: {output.strip()[-500:]}")
    return Load(**json.loads(line[1]))


def run_wrk(
    url: str,
    body: Path,
    headers: Mapping[str, str],
    *,
    clients: int,
    seconds: int,
    count_statuses: bool = False,
    pause_s: float = 0,
) -> Load:
    """Post the bytes of a file with wrk.

    Args:
        url: URL of the server.
        body: File with the bytes.
        headers: Headers of the requests.
        clients: Number of clients.
        seconds: Duration of the run.
        count_statuses: Accept errors, and count the replies by status.
        pause_s: Mean pause of a client before a request, in seconds.

    Raises:
        LoadError: wrk is missing or failed, connections broke, or there were errors and statuses are not counted.
    """
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed (Debian's package wrk)")
    # One thread: with two cores, a second one would slow the server down.
    options = ["--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--timeout", "60s"]
    arguments = [str(body), "yes" if count_statuses else "no", str(round(pause_s * 1000))]
    pairs = [word for pair in headers.items() for word in pair]
    command = ["wrk", *options, "--script", str(SCRIPT), url, "--", *arguments, *pairs]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    load = parse(ended.stdout + ended.stderr)
    if not count_statuses and (load.refused or load.broken):
        raise LoadError(f"{load.refused} of {load.requests} replies were errors, {load.broken} connections broke")
    return load
