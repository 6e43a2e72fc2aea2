"""`POST /loss` beside the floor and the peers, all of them up, each under load for a few seconds in turn."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bodies import JSON, SAFETENSORS, Batch
from benchmarks.contenders import FLOOR, OURS, PEERS, TEN_MINUTE, Contender
from benchmarks.load import Load, LoadError, put_load
from benchmarks.process import Process, StartError
from benchmarks.row import Row, over


@dataclass(frozen=True)
class Case:
    """One request, by so many clients.

    Args:
        floor: The least share of the floor's rate.
        peers: The least multiple of a peer's rate; the entry "" is for all that are not named.
        p99: The largest p99 as a multiple of p50.
        seconds: Of one round.
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
    """What to measure.

    Args:
        cases: Parts of the names of cases; none: all.
        peers: Parts of the names of peers; none: all.
        rounds: How often each is measured.
    """

    cases: Sequence[str] = ()
    peers: Sequence[str] = ()
    rounds: int = ROUNDS


def chosen(name: str, wanted: Sequence[str]) -> bool:
    """Whether a name has one of the parts, or all names are wanted."""
    return not wanted or any(part.lower().replace(" ", "") in name.lower().replace(" ", "") for part in wanted)


def run(folder: Path, options: Options) -> Iterator[Row]:
    """A row for each case and server, the latency of ours, and what its memory grows by."""
    cases = [case for case in CASES if chosen(case.name, options.cases)]
    peers = [
        peer
        for peer in (FLOOR, *PEERS)
        if chosen(peer.name, options.peers) and any(case.media_type in peer.paths for case in cases)
    ]
    with ExitStack() as stack:
        up = {OURS: stack.enter_context(OURS.running(folder))}
        down: dict[Contender, str] = {}
        for peer in peers:
            try:
                up[peer] = stack.enter_context(peer.running(folder))
            except StartError as err:
                down[peer] = str(err)
        for process in up.values():
            process.send(signal.SIGSTOP)
        for case in cases:
            yield from _Measured(case, up, down, folder).rows(options.rounds)
    for case in cases:
        if case.media_type == SAFETENSORS:
            yield _memory(case, folder)


class _Measured:
    """One case on all servers that are up; one that fails is taken out, with its reason."""

    def __init__(
        self, case: Case, up: Mapping[Contender, Process], down: Mapping[Contender, str], folder: Path
    ) -> None:
        self.case = case
        self.folder = folder
        self.up = {one: process for one, process in up.items() if case.media_type in one.paths}
        self.down = {one: reason for one, reason in down.items() if case.media_type in one.paths}
        self.batch = Batch.random(case.rows, case.classes)

    def rows(self, rounds: int) -> Iterator[Row]:
        """Checked, warmed up, measured in turn."""
        for one in list(self.up):
            with self.up[one].awake():
                fault = one.fault(self.up[one], self.batch, self.case.media_type, self.folder)
            if fault:
                self._drop(one, fault)
        self._round(WARM_UP_S, least=0)
        loads = [self._round(self.case.seconds) for _ in range(rounds)]
        ours = [load[OURS] for load in loads]
        for one in self.up:
            if one is not OURS:
                yield self._row(one, ours, [load[one] for load in loads])
        for one, reason in self.down.items():
            yield Row(f"{self._name()}, against {one.name}", _rate(ours), f"not run: {reason}")
        if self.case.p99 is not None:
            yield self._latency(ours)

    def _round(self, seconds: int, least: int = 1) -> dict[Contender, Load]:
        loads = {}
        for one in list(self.up):
            try:
                loads[one] = self._load(one, seconds)
                if loads[one].requests < least:
                    self._drop(one, f"no answer within {seconds} s")
            except LoadError as err:
                self._drop(one, str(err))
        return loads

    def _load(self, one: Contender, seconds: int) -> Load:
        body = one.body(self.batch, self.case.media_type, self.folder)
        url = self.up[one].url + one.paths[self.case.media_type]
        with self.up[one].awake():
            return put_load(url, body.path, body.headers, clients=self.case.clients, seconds=seconds)

    def _drop(self, one: Contender, reason: str) -> None:
        if one is OURS:
            raise LoadError(f"the service failed: {reason}")
        del self.up[one]
        self.down[one] = reason

    def _name(self) -> str:
        return f"POST /loss {self.case.name}, {self.case.clients} clients"

    def _row(self, one: Contender, ours: Sequence[Load], others: Sequence[Load]) -> Row:
        bar = self.case.floor if one is FLOOR else self.case.peers.get(one.name, self.case.peers.get(""))
        ratios = over([load.rate for load in ours], [load.rate for load in others])
        return Row(f"{self._name()}, against {one.name}", _rate(ours), _rate(others), ratios, at_least=bar)

    def _latency(self, ours: Sequence[Load]) -> Row:
        p50 = statistics.median(load.p50_ms for load in ours)
        p99 = statistics.median(load.p99_ms for load in ours)
        ratios = over([load.p99_ms for load in ours], [load.p50_ms for load in ours])
        what = f"{self._name()}, p99 against p50"
        return Row(what, f"p99 {p99:.2f} ms", f"p50 {p50:.2f} ms", ratios, at_most=self.case.p99)


def _rate(loads: Sequence[Load]) -> str:
    rate = statistics.median(load.rate for load in loads)
    return f"{rate:.0f} req/s" if rate >= 100 else f"{rate:.3g} req/s"


def _memory(case: Case, folder: Path) -> Row:
    """The peak of a fresh server over some requests of one client, beside what it held after small ones."""
    batch = Batch.random(case.rows, case.classes)
    # One process: each has buffers of its own, and the peaks of several at different times would be added up.
    with OURS.running(folder, processes=1) as process:
        for _ in range(20):
            OURS.fault(process, Batch.random(64, 10), case.media_type, folder)
        before = process.memory_bytes()
        process.forget_peak()
        faults = [OURS.fault(process, batch, case.media_type, folder) for _ in range(5)]
        growth = process.peak_bytes() - before
    if any(faults):
        raise LoadError(f"the service failed: {faults}")
    size = OURS.body(batch, case.media_type, folder).size
    what = f"POST /loss {case.name}, growth of one process over the body's bytes"
    return Row(what, f"{growth / 1e6:.1f} MB", f"{size / 1e6:.1f} MB", [growth / size], at_most=1.3)
