"""A server in a process of its own, with all the processes that it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENDS_WITHIN_S = 20.0


class StartError(Exception):
    """A server did not start."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Process:
    """A running server, the leader of its process group.

    Args:
        popen: Its first process.
        port: Where it listens on 127.0.0.1.
        log: Where its output goes.
    """

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """The first process and all that descend from it or share its group."""
        parents, found = {}, {self.popen.pid}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                # After the name, which may hold anything: state, parent, group.
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(path.parent.name)] = int(fields[1])
            if int(fields[2]) == self.popen.pid:
                found.add(int(path.parent.name))
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in found} - found
            grown, found = bool(children), found | children
        return sorted(found)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Stopped again after the block: some servers take a quarter of a core while they have nothing to do."""
        self.send(signal.SIGCONT)
        try:
            yield
        finally:
            self.send(signal.SIGSTOP)

    def send(self, kind: signal.Signals) -> None:
        """A signal to all of them."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, kind)

    def memory_bytes(self) -> int:
        """Resident memory of them all, now; pages that they share count once for each."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """The largest resident memory of each since the last `forget_peak`, in all."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak_bytes` begin anew."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _memory(self, field: str) -> int:
        return sum(memory_of(pid, field) for pid in self.pids())

    def cpu_seconds(self) -> float:
        """Processor time of them all so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int | str, field: str) -> int:
    """`VmRSS` or `VmHWM` of a process, bytes; 0 where it has none left."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


@contextmanager
def running(
    command: Sequence[str], log: Path, *, fault: Callable[[Process], str], within_s: float, **environment: str
) -> Iterator[Process]:
    """Start `command PORT`, wait until it is ready, and end all of its processes after the block.

    Args:
        command: Without the port, which is added as the last word.
        log: A file for its output.
        fault: What is wrong with it; asked until it says nothing.
        within_s: How long it may take.
        environment: More variables; those of the service are taken away.

    Raises:
        StartError: It ended or was not ready in time; the message has the end of its output.
    """
    port = free_port()
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*command, str(port)],
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=_environment(environment),
            # In the session of the load: autogroup gives each session the same part of the cores, to a load of one
            # thread as much as to all threads of a server.
            process_group=0,
        )
    process = Process(popen, port, log)
    try:
        _wait(process, fault, within_s)
        yield process
    finally:
        _end(process)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOCAL_LOSS_")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def _wait(process: Process, fault: Callable[[Process], str], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while wrong := fault(process):
        ended = process.popen.poll()
        if ended is not None or time.monotonic() > deadline:
            what = f"ended with status {ended}" if ended is not None else f"not ready within {within_s:.0f} s, {wrong}"
            raise StartError(f"{what}: ...{process.log.read_text(errors='replace').strip()[-300:]}")
        time.sleep(0.1)


def _end(process: Process) -> None:
    """Ask the first process to end; kill what it leaves behind."""
    process.send(signal.SIGCONT)
    left = process.pids()
    process.popen.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.popen.wait(ENDS_WITHIN_S)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.popen.wait()
