"""`POST /loss` against the floor and the peers. All servers run; each in turn is under load for a few seconds."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bodies import JSON, SAFETENSORS, Batch
from benchmarks.contenders import FLOOR, OURS, PEERS, TEN_MINUTE, Contender
from benchmarks.load import Load, LoadError, run_wrk
from benchmarks.process import Process, StartError
from benchmarks.row import Row, divide


@dataclass(frozen=True)
class Case:
    """A request, the number of clients that send it, and the bars.

    Args:
        media_type: Format of the request.
        rows: Rows of the batch.
        classes: Classes of the batch.
        clients: Number of clients.
        seconds: Duration of one round.
        floor: Minimum share of the floor's rate.
        peers: Minimum multiple of a peer's rate by its name; the entry "" is for all others.
        p99: Maximum p99 as a multiple of p50.
    """

    media_type: str
    rows: int
    classes: int
    clients: int
    seconds: int
    floor: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    p99: float | None = None

    @property
    def name(self) -> str:
        kind = "JSON" if self.media_type == JSON else "safetensors"
        return f"{kind} {self.rows} x {self.classes}"


CASES = (
    Case(SAFETENSORS, 4096, 100, clients=4, seconds=3, floor=0.85, peers={"": 1.5}),
    Case(SAFETENSORS, 65_536, 1000, clients=2, seconds=8, floor=0.85, peers={"": 1.5}),
    Case(JSON, 4096, 100, clients=4, seconds=4, peers={TEN_MINUTE.name: 10, "": 1}),
    Case(JSON, 64, 10, clients=8, seconds=3, peers={TEN_MINUTE.name: 3}, p99=3),
)
ROUNDS, WARM_UP_S = 3, 2


@dataclass(frozen=True)
class Options:
    """Selection of the measurements.

    Args:
        cases: Substrings of the names of cases. Empty: all.
        peers: Substrings of the names of peers. Empty: all.
        rounds: Number of measurements of each server.
    """

    cases: Sequence[str] = ()
    peers: Sequence[str] = ()
    rounds: int = ROUNDS


def matches(name: str, parts: Sequence[str]) -> bool:
    """Return True if a name contains one of the parts, or there are no parts."""
    return not parts or any(part.lower().replace(" ", "") in name.lower().replace(" ", "") for part in parts)


def run(folder: Path, options: Options) -> Iterator[Row]:
    """Yield a row for each case and server, the latency of ours, and the growth of its memory."""
    cases = [case for case in CASES if matches(case.name, options.cases)]
    peers = [
        peer
        for peer in (FLOOR, *PEERS)
        if matches(peer.name, options.peers) and any(case.media_type in peer.paths for case in cases)
    ]
    with ExitStack() as stack:
        processes = {OURS: stack.enter_context(OURS.running(folder))}
        failed: dict[Contender, str] = {}
        for peer in peers:
            try:
                processes[peer] = stack.enter_context(peer.running(folder))
            except StartError as err:
                failed[peer] = str(err)
        for process in processes.values():
            process.send(signal.SIGSTOP)
        for case in cases:
            yield from _CaseRun(case, processes, failed, folder).rows(options.rounds)
    for case in cases:
        if case.media_type == SAFETENSORS:
            yield _memory(case, folder)


class _CaseRun:
    """One case on all running servers. A server that fails is dropped, with the reason."""

    def __init__(
        self, case: Case, processes: Mapping[Contender, Process], failed: Mapping[Contender, str], folder: Path
    ) -> None:
        self.case = case
        self.folder = folder
        self.processes = {server: process for server, process in processes.items() if case.media_type in server.paths}
        self.failed = {server: reason for server, reason in failed.items() if case.media_type in server.paths}
        self.batch = Batch.random(case.rows, case.classes)

    def rows(self, rounds: int) -> Iterator[Row]:
        """Check, warm up and measure all servers in turn, and yield a row for each."""
        for server in list(self.processes):
            with self.processes[server].resumed():
                fault = server.fault(self.processes[server], self.batch, self.case.media_type, self.folder)
            if fault:
                self._drop(server, fault)
        self._round(WARM_UP_S, min_requests=0)
        loads = [self._round(self.case.seconds) for _ in range(rounds)]
        ours = [load[OURS] for load in loads]
        for server in self.processes:
            if server is not OURS:
                yield self._row(server, ours, [load[server] for load in loads])
        for server, reason in self.failed.items():
            yield Row(f"{self._name()}, against {server.name}", _rate(ours), f"not run: {reason}")
        if self.case.p99 is not None:
            yield self._latency(ours)

    def _round(self, seconds: int, min_requests: int = 1) -> dict[Contender, Load]:
        loads = {}
        for server in list(self.processes):
            try:
                loads[server] = self._load(server, seconds)
                if loads[server].requests < min_requests:
                    self._drop(server, f"no reply within {seconds} s")
            except LoadError as err:
                self._drop(server, str(err))
        return loads

    def _load(self, server: Contender, seconds: int) -> Load:
        body = server.body(self.batch, self.case.media_type, self.folder)
        url = self.processes[server].url + server.paths[self.case.media_type]
        with self.processes[server].resumed():
            return run_wrk(url, body.path, body.headers, clients=self.case.clients, seconds=seconds)

    def _drop(self, server: Contender, reason: str) -> None:
        if server is OURS:
            raise LoadError(f"the service failed: {reason}")
        del self.processes[server]
        self.failed[server] = reason

    def _name(self) -> str:
        return f"POST /loss {self.case.name}, {self.case.clients} clients"

    def _row(self, server: Contender, ours: Sequence[Load], others: Sequence[Load]) -> Row:
        bar = self.case.floor if server is FLOOR else self.case.peers.get(server.name, self.case.peers.get(""))
        ratios = divide([load.rate for load in ours], [load.rate for load in others])
        return Row(f"{self._name()}, against {server.name}", _rate(ours), _rate(others), ratios, at_least=bar)

    def _latency(self, ours: Sequence[Load]) -> Row:
        p50 = statistics.median(load.p50_ms for load in ours)
        p99 = statistics.median(load.p99_ms for load in ours)
        ratios = divide([load.p99_ms for load in ours], [load.p50_ms for load in ours])
        what = f"{self._name()}, p99 against p50"
        return Row(what, f"p99 {p99:.2f} ms", f"p50 {p50:.2f} ms", ratios, at_most=self.case.p99)


def _rate(loads: Sequence[Load]) -> str:
    rate = statistics.median(load.rate for load in loads)
    return f"{rate:.0f} req/s" if rate >= 100 else f"{rate:.3g} req/s"


def _memory(case: Case, folder: Path) -> Row:
    """Measure the growth of a new server's memory: its peak during requests, less its memory after small ones."""
    batch = Batch.random(case.rows, case.classes)
    # One process: the peaks of several processes, at different times, would be added up.
    with OURS.running(folder, processes=1) as process:
        for _ in range(20):
            OURS.fault(process, Batch.random(64, 10), case.media_type, folder)
        before = process.memory_bytes()
        process.reset_peak()
        faults = [OURS.fault(process, batch, case.media_type, folder) for _ in range(5)]
        growth = process.peak_bytes() - before
    if any(faults):
        raise LoadError(f"the service failed: {faults}")
    size = OURS.body(batch, case.media_type, folder).size
    what = f"POST /loss {case.name}, growth of one process over the body's bytes"
    return Row(what, f"{growth / 1e6:.1f} MB", f"{size / 1e6:.1f} MB", [growth / size], at_most=1.3)
