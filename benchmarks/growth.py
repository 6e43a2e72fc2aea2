"""Throughput from 1 to 64 clients, and under twice the load that the service can answer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from benchmarks.bodies import JSON, SAFETENSORS, Batch
from benchmarks.contenders import OURS
from benchmarks.load import Load, put_load
from benchmarks.process import Process
from benchmarks.row import Row
from service.settings import Settings

BODIES = ((JSON, 64, 10), (SAFETENSORS, 4096, 100))
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
# Short and many: the speed of a machine that is shared wanders, and of few rates the least is that of the worst noise.
ROUNDS, SECONDS, SETTLE_S = 11, 1, 0.3
LEAST_SHARE = 0.9
# Overload: so many clients, who wait between requests so that together they ask for twice the peak, or do not wait.
CROWD, PEAK_CLIENTS, CROWD_SECONDS = 256, 16, 3
CROWD_ROUNDS, PEAK_SECONDS = 11, 2


def run(folder: Path) -> Iterator[Row]:
    """A row for the clients and two for the overload, for a small JSON and a middling binary body."""
    with OURS.running(folder) as process:
        for body in BODIES:
            yield _clients(process, folder, *body)
            yield from _overload(process, folder, *body)


def least_share_of_peak(rates: Sequence[float]) -> float:
    """The smallest ratio of a rate to the largest one at as many clients or fewer."""
    return min(rate / peak for rate, peak in zip(rates, accumulate(rates, max), strict=True))


def _clients(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Row:
    _load(process, folder, media_type, rows, classes, clients=PEAK_CLIENTS)  # warms up
    rounds = [
        [_load(process, folder, media_type, rows, classes, clients=clients).rate for clients in CLIENTS]
        for _ in range(ROUNDS)
    ]
    rates = [statistics.median(column) for column in zip(*rounds, strict=True)]
    shown = ", ".join(f"{clients}: {rate:.0f}" for clients, rate in zip(CLIENTS, rates, strict=True))
    return Row(
        f"{_name(media_type, rows, classes)}, req/s by clients, least share of the peak so far",
        shown,
        # Of the medians, since the rates of one round are too noisy.
        ratios=[least_share_of_peak(rates)],
        at_least=LEAST_SHARE,
    )


def _overload(process: Process, folder: Path, media_type: str, rows: int, classes: int) -> Iterator[Row]:
    peaks, pausing, impatient = [], [], []
    for _ in range(CROWD_ROUNDS):
        peak = _load(process, folder, media_type, rows, classes, clients=PEAK_CLIENTS, seconds=PEAK_SECONDS)
        # Half of the requests wait for a full queue, the rest are refused at once.
        pause_s = (CROWD - Settings.model_fields["queue_size"].default) / (2 * peak.rate)
        crowd = {"clients": CROWD, "seconds": CROWD_SECONDS}
        peaks.append(peak)
        pausing.append(_load(process, folder, media_type, rows, classes, **crowd, pause_s=pause_s))
        impatient.append(_load(process, folder, media_type, rows, classes, **crowd))
    for kind, crowds in (("for twice the peak", pausing), ("again at once", impatient)):
        asked = statistics.median(crowd.requests / crowd.seconds for crowd in crowds)
        good = statistics.median(crowd.rate for crowd in crowds)
        yield Row(
            f"{_name(media_type, rows, classes)}, {CROWD} clients asking {kind}, share of the peak, rest shed",
            f"{good:.0f} req/s and {asked - good:.0f} of {', '.join(_refusals(crowds))}",
            f"peak {statistics.median(peak.rate for peak in peaks):.0f} req/s",
            [_kept(peak, crowd) for peak, crowd in zip(peaks, crowds, strict=True)],
            at_least=LEAST_SHARE,
        )


def _kept(peak: Load, crowd: Load) -> float:
    """The share of the peak; none of it where something else than 429 and 503 came, or connections broke."""
    fair = set(crowd.statuses) <= {"200", "429", "503"} and not crowd.broken
    return crowd.rate / peak.rate if fair else 0.0


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
