"""A server process with all the processes that it starts."""

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
SHUTDOWN_TIMEOUT_S = 20.0


class StartError(Exception):
    """A server did not start."""


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Process:
    """A running server, the leader of its process group.

    Args:
        popen: The first process.
        port: Port of 127.0.0.1 that it listens on.
        log: File with its output.
    """

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """Return the ids of the first process, of its descendants, and of all processes in its group."""
        parents, members = {}, {self.popen.pid}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                # Behind the name, which may contain any character: state, parent, group.
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # the process has ended
            parents[int(path.parent.name)] = int(fields[1])
            if int(fields[2]) == self.popen.pid:
                members.add(int(path.parent.name))
        while children := {pid for pid, parent in parents.items() if parent in members} - members:
            members |= children
        return sorted(members)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Resume the stopped server during the block. Servers are stopped since some use 25 % of a core when idle."""
        self.send(signal.SIGCONT)
        try:
            yield
        finally:
            self.send(signal.SIGSTOP)

    def send(self, kind: signal.Signals) -> None:
        """Send a signal to all processes."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, kind)

    def memory_bytes(self) -> int:
        """Return the resident memory of all processes. Shared pages are counted for each process."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Return the sum of the largest resident memory of each process since the last `reset_peak`."""
        return self._memory("VmHWM")

    def reset_peak(self) -> None:
        """Reset `peak_bytes` to the current memory."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _memory(self, field: str) -> int:
        return sum(memory_of(pid, field) for pid in self.pids())


def memory_of(pid: int | str, field: str) -> int:
    """Return `VmRSS` or `VmHWM` of a process in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


@contextmanager
def running(
    command: Sequence[str], log: Path, *, fault: Callable[[Process], str], timeout_s: float, **environment: str
) -> Iterator[Process]:
    """Start `command PORT`, wait until it is ready, and end all of its processes after the block.

    Args:
        command: Command without the port, which is added as the last word.
        log: File for its output.
        fault: Returns why the server is not ready, or an empty string. It is called repeatedly.
        timeout_s: Maximum seconds until it is ready.
        environment: Additional variables. Those of the service are removed from the environment.

    Raises:
        StartError: The server ended or was not ready in time. The message contains the end of its output.
    """
    port = free_port()
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*command, str(port)],
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=_environment(environment),
            # Not a new session: the kernel's autogroup shares the cores equally among sessions, so a load of one
            # thread would get as much as all threads of a server.
            process_group=0,
        )
    process = Process(popen, port, log)
    try:
        _wait(process, fault, timeout_s)
        yield process
    finally:
        _end(process)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOCAL_LOSS_")}
    return inherited | {"PYTHONPATH": str(ROOT)} | more


def _wait(process: Process, fault: Callable[[Process], str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while reason := fault(process):
        ended = process.popen.poll()
        if ended is not None or time.monotonic() > deadline:
            late = f"not ready within {timeout_s:.0f} s, {reason}"
            what = late if ended is None else f"ended with status {ended}"
            raise StartError(f"{what}: ...{process.log.read_text(errors='replace').strip()[-300:]}")
        time.sleep(0.1)


def _end(process: Process) -> None:
    """Terminate the first process, and kill the processes that it leaves behind."""
    process.send(signal.SIGCONT)
    pids = process.pids()
    process.popen.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.popen.wait(SHUTDOWN_TIMEOUT_S)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.popen.wait()
