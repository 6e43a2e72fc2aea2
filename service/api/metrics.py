"""The Prometheus metrics of one service process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service import __version__
from service.compute.device import Engine
from service.compute.registry import LossRegistry
from service.schema.result import BatchResult

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# Of these every process has much the same; of all others the sum counts.
ALIKE = frozenset({"focal_loss_info", "focal_loss_configs_held"})


class Metrics:
    """Counters, gauges and histograms in a registry of their own, so that two apps in one process do not collide."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, engine: Engine, losses: LossRegistry) -> None:
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
        # The library looks for a child under its lock, by the strings of its labels; here each is looked for once.
        self._requests, self._duration = cache(requests.labels), cache(duration.labels)
        self._phase, self._examples = cache(phase.labels), cache(examples.labels)
        self._batches = Counter("focal_loss_batches", "Batches scored.", registry=self.registry)
        self._gauge("focal_loss_requests_held", "Requests held, at work or waiting.", lambda: engine.requests)
        self._gauge("focal_loss_request_bytes_held", "Bytes of request bodies held.", lambda: engine.queued_bytes)
        self._gauge("focal_loss_configs_held", "Configurations on the device.", lambda: len(losses))
        self._gauge(
            "focal_loss_out_of_memory_retries",
            "Chunks made smaller because the device ran out of memory.",
            lambda: engine.out_of_memory_retries,
        )
        info = Gauge("focal_loss_info", "Version and device.", ("version", "device"), registry=self.registry)
        info.labels(__version__, engine.device).set(1)

    def _gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the path with its parameters as names."""
        self._requests(method, route, str(status)).inc()
        self._duration(method, route).observe(seconds)

    def count_phases(self, phases: Mapping[str, float]) -> None:
        """Count how many seconds each phase of a loss request took."""
        for phase, seconds in phases.items():
            self._phase(phase).observe(seconds)

    def count(self, result: BatchResult) -> None:
        """Count a batch."""
        self._batches.inc()
        self._examples("ignored").inc(result.num_ignored)
        self._examples("excluded").inc(result.num_excluded)
        self._examples("counted").inc(result.num_examples - result.num_ignored - result.num_excluded)

    def exposition(self) -> str:
        """What this process has counted, in Prometheus' text format."""
        return generate_latest(self.registry).decode()


def summed(expositions: Sequence[str]) -> str:
    """The metrics of several processes of one service as those of one."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in expositions:
        for family in text_string_to_metric_families(text):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            together = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                together[key] = _joined(family.name, together[key], sample.value) if key in together else sample.value
    for name, family in families.items():
        family.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()]
    return generate_latest(_Collected([*families.values()])).decode()


def _joined(name: str, one: float, other: float) -> float:
    if name.endswith("_created"):
        return min(one, other)
    return max(one, other) if name in ALIKE else one + other


class _Collected(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families
