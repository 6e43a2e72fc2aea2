"""An hour of mixed traffic: `python -m tests.bounds.soak --seconds 3600` prints memory and latencies.

Each cycle stores the runs again, has a quiet phase with small requests only, and a loud phase with large requests, slow
clients and clients that leave. Memory is compared at the ends of the quiet phases. The exit status is 1 for growth, for
a reply of status 500, for an error in the log, and for a small request that fails.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.bounds.latency import LOUD, QUIET, Latencies
from tests.bounds.traffic import Counts, run_traffic, store_runs_again
from tests.bounds.worst_request import KB, MB
from tests.live.server_process import ServerProcess, running_server

# Caches that are full after minutes; those without a setting (results, reviews, documents) need half an hour.
SETTINGS = {"processes": "2", "max_kept_bytes": str(64 * 2**20), "query_memory_bytes": str(128 * 2**20)}
CYCLE_S = 240.0
QUIET_SHARE = 0.25
SAMPLE_S = 10.0
RUN_BYTES = 500 * KB
LOAD = 0.5
# Of the last fifth of the quiet phases over the middle fifth, when all caches are full: later growth is a leak. What
# the allocators keep differs by some percent from one quiet phase to the next.
MAX_GROWTH = 0.05
# A shorter soak ends before the caches are full.
LEAST_S_FOR_GROWTH = 3000
# Above it the service is ended: other work on the machine needs the memory.
MAX_MEMORY_BYTES = 3_000 * MB


@dataclass(frozen=True)
class Sample:
    """The service at one moment.

    Args:
        at_s: Seconds since the start.
        phase: `quiet` or `loud`.
        memory_bytes: Proportional set size of all processes.
        files: Open descriptors of all processes.
        threads: Threads of all processes.
        leftovers: Temporary files of the service.
    """

    at_s: float
    phase: str
    memory_bytes: int
    files: int
    threads: int
    leftovers: int


class Soak:
    """Traffic in cycles, with samples.

    Args:
        server: The service.
        temporary: Its folder for temporary files.
        seconds: Length of the soak.
    """

    def __init__(self, server: ServerProcess, temporary: Path, seconds: float) -> None:
        self._server, self._temporary = server, temporary
        self._start = time.monotonic()
        self._cycles = max(5, round(seconds / CYCLE_S))
        self._cycle_s = seconds / self._cycles
        self._probes = [Latencies(server.url, path) for path in ("/loss", "/healthz")]
        self.samples: list[Sample] = []
        self.counts: Counts = Counter()

    def run(self) -> None:
        """Run all cycles."""
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            for cycle in range(self._cycles):
                store_runs_again(self._server.url, RUN_BYTES)
                self._sample_for(QUIET, self._start + self._cycle_s * (cycle + QUIET_SHARE))
                end = self._start + self._cycle_s * (cycle + 1)
                traffic = pool.submit(run_traffic, self._server.url, end - time.monotonic(), LOAD, cycle)
                self._sample_for(LOUD, end)
                self.counts += traffic.result()
                print(f"{self.quiet_ends[-1]}", file=sys.stderr, flush=True)
            store_runs_again(self._server.url, RUN_BYTES)
            self._sample_for(QUIET, time.monotonic() + self._cycle_s * QUIET_SHARE)
        for probe in self._probes:
            probe.close()

    def _sample_for(self, phase: str, end: float) -> None:
        for probe in self._probes:
            probe.phase = phase
        next_sample = time.monotonic()
        while (now := time.monotonic()) < end:
            if self._server.memory_bytes() > MAX_MEMORY_BYTES:
                self._server.process.kill()
                raise SystemExit(f"the service took more than {MAX_MEMORY_BYTES / MB:.0f} MB")
            if now >= next_sample:
                self.samples.append(self._sample(phase))
                next_sample += SAMPLE_S
            time.sleep(max(0.0, min(1.0, end - now)))
        self.samples.append(self._sample(phase))

    def _sample(self, phase: str) -> Sample:
        pids = [self._server.process.pid, *self._server.workers()]
        return Sample(
            time.monotonic() - self._start,
            phase,
            self._server.memory_bytes(),
            sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
            sum(1 for _ in self._temporary.rglob("*")) + sum(1 for _ in self._server.data_dir.rglob(".staged*")),
        )

    @property
    def quiet_ends(self) -> list[Sample]:
        """The last sample of each quiet phase."""
        following = [*self.samples[1:], None]
        return [
            sample
            for sample, after in zip(self.samples, following, strict=True)
            if sample.phase == QUIET and (after is None or after.phase == LOUD)
        ]

    def faults(self) -> list[str]:
        """Growth of memory, errors of the service, and small requests that failed."""
        ends = self.quiet_ends
        fifth = max(1, len(ends) // 5)
        middle, last = (_mean_bytes(part) for part in (ends[2 * fifth : 3 * fifth], ends[-fifth:]))
        internal = [line for line in self._server.log() if line.get("level") == "error"]
        is_long = self._cycles * self._cycle_s >= LEAST_S_FOR_GROWTH
        checks = {
            f"memory grew from {middle / MB:.0f} to {last / MB:.0f} MB": is_long and last > (1 + MAX_GROWTH) * middle,
            f"{self.counts['500']} replies of status 500": self.counts["500"] > 0,
            f"{len(internal)} errors in the log: {_summary(internal)}": bool(internal),
            "small requests failed": any(probe.failures for probe in self._probes),
        }
        return [fault for fault, found in checks.items() if found]

    def table(self) -> str:
        """The figures as Markdown."""
        ends = self.quiet_ends
        chosen = [ends[0], *(ends[min(len(ends) - 1, int(share * (len(ends) - 1)))] for share in (0.1, 0.5, 1))]
        peak = max(self.samples, key=lambda sample: sample.memory_bytes)
        rows = [
            "| | start | 10 % | 50 % | 100 % | most |",
            "|---|---|---|---|---|---|",
            _row("memory of all processes, MB", [round(s.memory_bytes / MB) for s in (*chosen, peak)]),
            _row("descriptors", [*(s.files for s in chosen), max(s.files for s in self.samples)]),
            _row("threads", [*(s.threads for s in chosen), max(s.threads for s in self.samples)]),
            _row("temporary files", [*(s.leftovers for s in chosen), max(s.leftovers for s in self.samples)]),
            "",
            "| latency in ms | p50 without | p50 with | p99 without | p99 with large requests | ratio of p99 |",
            "|---|---|---|---|---|---|",
        ]
        for name, probe in zip(("`POST /loss`, 64 x 10", "`GET /healthz`"), self._probes, strict=True):
            values = probe.milliseconds()
            rows.append(_row(name, [*(f"{value:.1f}" for value in values), f"{values[3] / max(values[2], 1e-9):.1f}"]))
        total = sum(count for status, count in self.counts.items() if status.isdecimal())
        by_status = ", ".join(f"{status}: {count}" for status, count in sorted(self.counts.items()))
        return "\n".join(
            [*rows, "", f"{total} large or bad requests in {self.samples[-1].at_s / 60:.0f} minutes ({by_status})."]
        )


def _summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """Counts of the errors of the log, by path and error."""
    counts = Counter(f"{line.get('path')} {line.get('error')}" for line in lines)
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common(10))


def _mean_bytes(samples: Sequence[Sample]) -> float:
    return statistics.mean(sample.memory_bytes for sample in samples) if samples else 0.0


def _row(name: str, values: Sequence[object]) -> str:
    return f"| {name} | {' | '.join(str(value) for value in values)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "temporary"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        with running_server(Path(folder), **SETTINGS) as server:
            soak = Soak(server, temporary, seconds)
            soak.run()
            faults = soak.faults()
    print(soak.table())
    print("\n".join(faults) or "no fault")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
