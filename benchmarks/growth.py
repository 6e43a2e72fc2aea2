"""Throughput from 1 to 64 clients, and under twice the load that the service can answer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from benchmarks.bodies import JSON, SAFETENSORS, Batch
from benchmarks.contenders import OURS
from benchmarks.load import Load, put_load
from benchmarks.process import Process
from benchmarks.row import Row

BODIES = ((JSON, 64, 10), (SAFETENSORS, 4096, 100))
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
# Short and many: the speed of a machine that is shared wanders, and of few rates the least is that of the worst noise.
ROUNDS, SECONDS, SETTLE_S = 9, 2, 0.3
LEAST_SHARE, LEAST_SHARE_OVERLOADED = 0.9, 0.8
# Overload: so many clients, who pause between requests.
CROWD, CROWD_SECONDS, CROWD_ROUNDS = 256, 6, 9
PEAK_CLIENTS = 16


def run(folder: Path) -> Iterator[Row]:
    """A row for the clients and one for the overload, for a small JSON and a middling binary body."""
    with OURS.running(folder) as process:
        for body in BODIES:
            yield _clients(process, folder, *body)
            yield _overload(process, folder, *body)


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def least_share_of_peak(rates: Sequence[float]) -> float:
    """The smallest ratio of a rate to the largest one at as many clients or fewer."""
    return min(rate / peak for rate, peak in zip(rates, accumulate(rates, max), strict=True))


def _clients(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Row:
    _load(process, folder, media_type, rows, classes, clients=PEAK_CLIENTS)  # warms up
    rounds = [
        [_load(process, folder, media_type, rows, classes, clients=clients).rate for clients in CLIENTS]
        for _ in range(ROUNDS)
    ]
    shown = ", ".join(f"{clients}: {rate:.0f}" for clients, rate in zip(CLIENTS, medians(rounds), strict=True))
    # The speed of a machine that is shared wanders from round to round.
    shares = [[rate / statistics.mean(rates) for rate in rates] for rates in rounds]
    return Row(
        f"{_name(media_type, rows, classes)}, req/s by clients, least share of the peak so far",
        shown,
        # Of the medians, since the rates of one round are too noisy.
        ratios=[least_share_of_peak(medians(shares))],
        at_least=LEAST_SHARE,
    )


def _overload(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Row:
    def load(clients: int, **more: float) -> Load:
        return _load(process, folder, media_type, rows, classes, clients=clients, **more)

    peaks, crowds = [load(PEAK_CLIENTS)], []
    for _ in range(CROWD_ROUNDS):
        # Answered at once, the clients would ask for twice the peak.
        crowds.append(load(CROWD, seconds=CROWD_SECONDS, pause_s=CROWD / (2 * peaks[-1].rate)))
        peaks.append(load(PEAK_CLIENTS))
    # The speed of a machine that is shared wanders: each crowd is compared with the peaks before and after it.
    around = [(before.rate + after.rate) / 2 for before, after in pairwise(peaks)]
    asked = statistics.median(crowd.requests / crowd.seconds for crowd in crowds)
    good = statistics.median(crowd.rate for crowd in crowds)
    return Row(
        f"{_name(media_type, rows, classes)}, {CROWD} clients asking for twice the peak, share of the peak",
        f"{good:.0f} req/s and {asked - good:.0f} of {', '.join(_refusals(crowds))}",
        f"peak {statistics.median(peak.rate for peak in peaks):.0f} req/s",
        [_kept(peak, crowd) for peak, crowd in zip(around, crowds, strict=True)],
        at_least=LEAST_SHARE_OVERLOADED,
    )


def _kept(peak: float, crowd: Load) -> float:
    """The share of the peak; 0 if connections broke, or a refusal was no 429 or 503 with `Retry-After`."""
    fair = set(crowd.statuses) <= {"200", "429", "503"} and not crowd.broken
    return crowd.rate / peak if fair else 0.0


def _refusals(loads: Sequence[Load]) -> list[str]:
    return sorted({status for load in loads for status in load.statuses} - {"200"}) or ["none"]


def _load(
    process: Process, folder: Path, media_type: str, rows: int, classes: int, *, clients: int, **more: float
) -> Load:
    body = OURS.body(Batch.random(rows, classes), media_type, folder)
    # wrk ends in the middle of its requests, whose places in the queue are free only when they are worked off.
    time.sleep(SETTLE_S)
    options = {"seconds": SECONDS, "count_statuses": True} | more
    return put_load(process.url + OURS.paths[media_type], body.path, body.headers, clients=clients, **options)


def _name(media_type: str, rows: int, classes: int) -> str:
    return f"POST /loss {'JSON' if media_type == JSON else 'safetensors'} {rows} x {classes}"
