"""Load by wrk, a generator outside Python: clients that each have one request on the way."""

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
    """The load could not be put on a server, or was not answered."""


@dataclass(frozen=True)
class Load:
    """What came of one run of wrk.

    Args:
        seconds: How long it took.
        requests: Answers, of every status.
        refused: Those of them that are no 2xx or 3xx.
        broken: Connections that were not made, broke, or answered too late.
        p50_ms: Median time of a request.
        p99_ms: The time that one request in a hundred exceeds.
        statuses: Answers by status, where they were counted.
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
        """Good answers a second."""
        return (self.requests - self.refused) / self.seconds


def parse(output: str) -> Load:
    """The line that `load.lua` prints.

    Raises:
        LoadError: There is none.
    """
    found = re.search(r"^load (\{.*\})$", output, re.MULTILINE)
    if found is None:
        raise LoadError(f"wrk printed no result: {output.strip()[-500:]}")
    return Load(**json.loads(found[1]))


def put_load(
    url: str,
    body: Path,
    headers: Mapping[str, str],
    *,
    clients: int,
    seconds: int,
    count_statuses: bool = False,
    pause_s: float = 0,
) -> Load:
    """Post the file's bytes by so many clients for so long; each waits `pause_s` on average before a request.

    Raises:
        LoadError: wrk is missing or failed, connections broke, or answers were no 2xx though statuses are not counted.
    """
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed (Debian's package wrk)")
    # One thread: with two cores a second one would take from the server.
    options = ["--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--timeout", "60s"]
    arguments = [str(body), "yes" if count_statuses else "no", str(round(pause_s * 1000))]
    pairs = [word for pair in headers.items() for word in pair]
    command = ["wrk", *options, "--script", str(SCRIPT), url, "--", *arguments, *pairs]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    load = parse(ended.stdout + ended.stderr)
    if not count_statuses and (load.refused or load.broken):
        raise LoadError(f"{load.refused} of {load.requests} answers were errors, {load.broken} connections broke")
    return load
