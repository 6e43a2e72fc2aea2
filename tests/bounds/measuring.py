"""Memory, time and the latency of `/healthz` while a service answers a request."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

import httpx

from tests.bounds.worst_request import MB, NEW, WorstRequest
from tests.live.server_process import ServerProcess

# The bars: bytes for each byte of a body, a reply or a stored file, and in addition; seconds for each MB.
BYTES_PER_BYTE, FURTHER_BYTES = 4, 64 * MB
SECONDS_PER_MB, LEAST_S = 2.0, 2.0
LARGEST_ERROR_BYTES = MB // 4
HEALTH_WITHIN_S = 0.5
HEALTH_EVERY_S = 0.02
# A service that takes more is killed: other work on the machine needs the memory.
KILL_ABOVE_BYTES = 2_000 * MB
# A request that takes this many times its seconds is given up.
GIVE_UP_FACTOR = 5
# The machine is shared: what misses a bar by less than this factor is measured again.
TIME_NOISE, MEMORY_NOISE = 4, 1.25
CHUNK = 16 * 1024


@dataclass(frozen=True)
class Measurement:
    """Cost of a request.

    Args:
        status: Status of the reply; 0 if the service did not answer.
        code: Code of the error; empty for a reply without one.
        reply_bytes: Bytes of the reply's body.
        stored_bytes: Growth of the data directory.
        grown_bytes: Growth of the peak of resident memory, over all processes.
        wall_s: Seconds until the end of the reply.
        cpu_s: Seconds of processor time of all processes meanwhile.
        health_s: Longest time of `/healthz` meanwhile.
    """

    request: WorstRequest
    status: int
    code: str
    reply_bytes: int
    stored_bytes: int
    grown_bytes: int
    wall_s: float
    cpu_s: float
    health_s: float

    @property
    def counted_bytes(self) -> int:
        """Bytes of the body, of the reply, or of what was stored."""
        return max(self.request.size, self.reply_bytes, self.stored_bytes)

    @property
    def seconds(self) -> float:
        """Seconds until the end of the reply, without those in which the machine did other work."""
        return min(self.wall_s, max(self.cpu_s, self.wall_s / TIME_NOISE))

    @property
    def faults(self) -> list[str]:
        """The bars that it missed."""
        most_bytes = BYTES_PER_BYTE * self.counted_bytes + FURTHER_BYTES
        most_s = seconds_for(self.counted_bytes)
        checks = {
            f"status {self.status}": self.status in (0, 500),
            f"an error of {self.reply_bytes} bytes": bool(self.code) and self.reply_bytes > LARGEST_ERROR_BYTES,
            f"+{self.grown_bytes // MB} MB, at most {most_bytes // MB}": self.grown_bytes > most_bytes,
            f"{self.seconds:.1f} s, at most {most_s:.1f}": self.seconds > most_s,
            f"/healthz {self.health_s:.2f} s": self.health_s > HEALTH_WITHIN_S,
        }
        return [fault for fault, missed in checks.items() if missed]

    @property
    def may_be_noise(self) -> bool:
        """True if the bars are missed by less than what other work on the machine and the allocator can explain."""
        less = replace(
            self,
            grown_bytes=int(self.grown_bytes / MEMORY_NOISE),
            wall_s=self.wall_s / TIME_NOISE,
            cpu_s=self.cpu_s / TIME_NOISE,
            health_s=self.health_s / TIME_NOISE,
        )
        return bool(self.faults) and not less.faults

    @property
    def line(self) -> str:
        """The measurement as a line of text."""
        return (
            f"{self.request.method} {self.request.path[:60]} | {self.request.name} | {self.request.size / MB:.2f} MB | "
            f"{self.status} {self.code} | {self.reply_bytes / MB:.2f} MB | +{self.grown_bytes / MB:.0f} MB | "
            f"{self.wall_s:.2f} s, {self.cpu_s:.2f} of CPU | {self.health_s:.3f} s"
        )


def seconds_for(size: int) -> float:
    """Seconds that a request of this many bytes may take."""
    return max(LEAST_S, SECONDS_PER_MB * size / MB)


class Watch:
    """Asks `/healthz` again and again, and kills a service that takes too much memory or time."""

    def __init__(self, server: ServerProcess, give_up_after_s: float) -> None:
        self._give_up_after_s = give_up_after_s
        self._server = server
        self._pids = [server.process.pid, *server.workers()]
        self._done = Event()
        self._health = Thread(target=self._ask, daemon=True)
        self._guard = Thread(target=self._limit, daemon=True)
        self.longest_s = self.cpu_s = 0.0
        self.grown_bytes = 0

    def __enter__(self) -> Watch:
        for pid in self._pids:
            # Sets the peak of the process to its present memory; see proc(5).
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = sum(_memory(pid, "VmRSS") for pid in self._pids)
        self._cpu_before = self._cpu()
        self._health.start()
        self._guard.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_s = max(self.cpu_s, self._cpu() - self._cpu_before)
        self._done.set()
        self._health.join()
        self._guard.join()
        self.grown_bytes = max(self.grown_bytes, sum(_memory(pid, "VmHWM") for pid in self._pids) - self._before)

    def _cpu(self) -> float:
        return sum(_cpu_s(pid) for pid in self._pids)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=2 * self._give_up_after_s)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            while True:
                start = time.perf_counter()
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                self.longest_s = max(self.longest_s, time.perf_counter() - start)
                if self._done.wait(HEALTH_EVERY_S):
                    return

    def _limit(self) -> None:
        deadline = time.monotonic() + self._give_up_after_s
        while not self._done.wait(0.02):
            self.grown_bytes = max(self.grown_bytes, sum(_memory(pid, "VmRSS") for pid in self._pids) - self._before)
            self.cpu_s = max(self.cpu_s, self._cpu() - self._cpu_before)
            if self.grown_bytes > KILL_ABOVE_BYTES or time.monotonic() > deadline:
                for pid in self._pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, 9)
                return


def _memory(pid: int, name: str) -> int:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    return 0


def _cpu_s(pid: int) -> float:
    """Processor time of a process; 0 once it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def send(client: httpx.Client, request: WorstRequest, new: str) -> httpx.Response:
    """Send a request, with a name in the place of `{new}`."""
    body = request.body.replace(NEW.encode(), new.encode())
    content = _chunks(body) if request.chunked else body
    return client.request(
        request.method,
        request.path.replace(NEW, new),
        content=content or None,
        headers={**request.headers, "Accept-Encoding": "identity"},
    )


def measure(server: ServerProcess, request: WorstRequest, new: str) -> Measurement:
    """Send the request and measure what it costs."""
    give_up_after_s = GIVE_UP_FACTOR * seconds_for(request.size)
    with httpx.Client(base_url=server.url, timeout=2 * give_up_after_s, verify=False) as client:
        for before in request.before:
            send(client, before, new)
        status, code, size = 0, "no answer", 0
        # Counting takes longer than most requests, and these store nothing.
        may_store = request.method not in ("GET", "HEAD", "OPTIONS")
        stored = _bytes_below(server.data_dir) if may_store else 0
        with Watch(server, give_up_after_s) as watch:
            start = time.perf_counter()
            with suppress(httpx.TransportError):
                reply = send(client, request, new)
                status, size = reply.status_code, len(reply.content)
                code = reply.json()["code"] if "problem" in reply.headers.get("content-type", "") else ""
            wall_s = time.perf_counter() - start
    stored = _bytes_below(server.data_dir) - stored if may_store else 0
    return Measurement(request, status, code, size, stored, watch.grown_bytes, wall_s, watch.cpu_s, watch.longest_s)


def _bytes_below(folder: Path | str) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # a temporary file
            total += _bytes_below(entry.path) if entry.is_dir() else entry.stat().st_size
    return total


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]
