"""The Prometheus metrics of the service.

With several worker processes `PROMETHEUS_MULTIPROC_DIR` is set: prometheus_client keeps the values of each process in
files in that folder, and the worker that answers `/metrics` sums them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service import __version__
from service.schema.result import BatchResult
from service.settings import METRICS_FOLDER_VARIABLE

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters, gauges and histograms, in their own registry so that two apps in one process do not collide.

    Args:
        device: Name of the device, e.g. `cuda:0`.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, device: str) -> None:
        if folder := os.environ.get(METRICS_FOLDER_VARIABLE):
            _forget_dead_processes(Path(folder))
            # No worker forks; by default the library calls getpid at each change of a value.
            pid = os.getpid()
            values.ValueClass = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        requests = Counter(
            "focal_loss_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        duration = Histogram(
            "focal_loss_request_duration_seconds",
            "From the first byte of a request to the last of its reply.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        phase = Histogram(
            "focal_loss_phase_duration_seconds",
            "Phases of a loss request: receive, queue, decode, compute, encode.",
            ("phase",),
            buckets=SECONDS,
            registry=self.registry,
        )
        examples = Counter("focal_loss_examples", "Examples scored.", ("kind",), registry=self.registry)
        # The library looks a child up by its labels, under a lock; the caches do that once per child.
        self._requests, self._duration = cache(requests.labels), cache(duration.labels)
        self._phase, self._examples = cache(phase.labels), cache(examples.labels)
        self._batches = Counter("focal_loss_batches", "Batches scored.", registry=self.registry)
        self._held = self._gauge("requests_held", "Requests with a body held, at work or waiting.", "livesum")
        self._held_bytes = self._gauge(
            "request_bytes_held", "Bytes of request bodies and large replies held.", "livesum"
        )
        self._questions = self._gauge("questions_held", "Questions about runs, at work or waiting.", "livesum")
        self._configs = self._gauge("configs_held", "Configurations on the device.", "livemax")
        self._retries = self._gauge(
            "out_of_memory_retries", "Chunks made smaller because the device ran out of memory.", "sum"
        )
        info = Gauge(
            "focal_loss_info",
            "Version and device.",
            ("version", "device"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        info.labels(__version__, device).set(1)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemax", "sum"]) -> Gauge:
        return Gauge(f"focal_loss_{name}", text, registry=self.registry, multiprocess_mode=mode)

    def set_held(self, requests: int, num_bytes: int) -> None:
        """Set the number of requests in this process, and the bytes of their bodies."""
        # Gauge.set checks first if the gauge has labels; this is called twice for each request.
        self._held._value.set(requests)
        self._held_bytes._value.set(num_bytes)

    def set_questions(self, count: int) -> None:
        """Set the number of questions about runs that have a place."""
        self._questions.set(count)

    def set_configs(self, count: int) -> None:
        """Set the number of configurations on the device."""
        self._configs.set(count)

    def count_retry(self) -> None:
        """Count a retry with smaller chunks after the device ran out of memory."""
        self._retries.inc()

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the path with its parameters as names."""
        self._requests(method, route, str(status)).inc()
        self._duration(method, route).observe(seconds)

    def count_phases(self, phases: Mapping[str, float]) -> None:
        """Count the seconds of each phase of a loss request."""
        for phase, seconds in phases.items():
            self._phase(phase).observe(seconds)

    def count(self, result: BatchResult) -> None:
        """Count a batch."""
        self._batches.inc()
        self._examples("ignored").inc(result.num_ignored)
        self._examples("excluded").inc(result.num_excluded)
        self._examples("counted").inc(result.num_examples - result.num_ignored - result.num_excluded)

    def exposition(self) -> bytes:
        """The metrics of all processes, in Prometheus' text format."""
        if METRICS_FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_dead_processes(folder: Path) -> None:
    """Remove the live gauges of processes that were killed."""
    pids = {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # a process of another user
