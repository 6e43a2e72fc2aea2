"""Throughput from 1 to 64 clients, and under twice the load that the service can handle."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from benchmarks.bodies import JSON, SAFETENSORS, Batch
from benchmarks.contenders import OURS
from benchmarks.load import Load, run_wrk
from benchmarks.process import Process
from benchmarks.row import Row

BODIES = ((JSON, 64, 10), (SAFETENSORS, 4096, 100))
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
# Many short rounds: the speed of a shared machine varies, and the minimum of few rates would be mostly noise.
ROUNDS, SECONDS, SETTLE_S = 9, 2, 0.3
MIN_SHARE, MIN_SHARE_OVERLOADED = 0.9, 0.8
# Overload: this many clients, with pauses between their requests.
CROWD, CROWD_SECONDS, CROWD_ROUNDS = 256, 6, 9
PEAK_CLIENTS = 16


def run(folder: Path) -> Iterator[Row]:
    """Yield a row for the number of clients and one for overload, for a small JSON body and a medium binary body."""
    with OURS.running(folder) as process:
        for body in BODIES:
            yield _clients(process, folder, *body)
            yield _overload(process, folder, *body)


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def lowest_share_of_peak(rates: Sequence[float]) -> float:
    """Return the smallest ratio of a rate to the largest rate of the same number of clients or fewer."""
    return min(rate / peak for rate, peak in zip(rates, accumulate(rates, max), strict=True))


def _clients(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Row:
    _load(process, folder, media_type, rows, classes, clients=PEAK_CLIENTS)  # warms up
    rounds = [
        [_load(process, folder, media_type, rows, classes, clients=clients).rate for clients in CLIENTS]
        for _ in range(ROUNDS)
    ]
    shown = ", ".join(f"{clients}: {rate:.0f}" for clients, rate in zip(CLIENTS, medians(rounds), strict=True))
    # The speed of a shared machine varies from round to round.
    shares = [[rate / statistics.mean(rates) for rate in rates] for rates in rounds]
    return Row(
        f"{_name(media_type, rows, classes)}, req/s by clients, least share of the peak so far",
        shown,
        # From the medians, because the rates of one round are too noisy.
        ratios=[lowest_share_of_peak(medians(shares))],
        at_least=MIN_SHARE,
    )


def _overload(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Row:
    def load(clients: int, **more: float) -> Load:
        return _load(process, folder, media_type, rows, classes, clients=clients, **more)

    peaks, crowds = [load(PEAK_CLIENTS)], []
    for _ in range(CROWD_ROUNDS):
        # With immediate replies the clients would send twice the peak rate.
        crowds.append(load(CROWD, seconds=CROWD_SECONDS, pause_s=CROWD / (2 * peaks[-1].rate)))
        peaks.append(load(PEAK_CLIENTS))
    # The speed of a shared machine varies: each crowd is compared with the peaks before and after it.
    around = [(before.rate + after.rate) / 2 for before, after in pairwise(peaks)]
    sent = statistics.median(crowd.requests / crowd.seconds for crowd in crowds)
    good = statistics.median(crowd.rate for crowd in crowds)
    return Row(
        f"{_name(media_type, rows, classes)}, {CROWD} clients asking for twice the peak, share of the peak",
        f"{good:.0f} req/s and {sent - good:.0f} of {', '.join(_error_statuses(crowds))}",
        f"peak {statistics.median(peak.rate for peak in peaks):.0f} req/s",
        [_share_of_peak(peak, crowd) for peak, crowd in zip(around, crowds, strict=True)],
        at_least=MIN_SHARE_OVERLOADED,
    )


def _share_of_peak(peak: float, crowd: Load) -> float:
    """Return the share of the peak; 0 if connections broke or an error was not a 429 or 503 with `Retry-After`."""
    fair = set(crowd.statuses) <= {"200", "429", "503"} and not crowd.broken
    return crowd.rate / peak if fair else 0.0


def _error_statuses(loads: Sequence[Load]) -> list[str]:
    return sorted({status for load in loads for status in load.statuses} - {"200"}) or ["none"]


def _load(
    process: Process, folder: Path, media_type: str, rows: int, classes: int, *, clients: int, **more: float
) -> Load:
    body = OURS.body(Batch.random(rows, classes), media_type, folder)
    # wrk stops in the middle of its requests; the service still has to work them off.
    time.sleep(SETTLE_S)
    options = {"seconds": SECONDS, "count_statuses": True} | more
    return run_wrk(process.url + OURS.paths[media_type], body.path, body.headers, clients=clients, **options)


def _name(media_type: str, rows: int, classes: int) -> str:
    return f"POST /loss {'JSON' if media_type == JSON else 'safetensors'} {rows} x {classes}"
