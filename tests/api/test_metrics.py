"""The metrics of several processes as those of one service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import SECONDS, Metrics, summed
from service.compute.device import Engine
from service.compute.registry import LossRegistry
from service.schema.config import LossConfig

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", workers=1, queue_size=9, max_queued_bytes=1000)
    yield engine
    engine.close()


def samples(text: str) -> Samples:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def process(engine: Engine, gammas: int = 0) -> Metrics:
    """The metrics of a process that holds so many configurations."""
    registry = LossRegistry("cpu", 10)
    for gamma in range(gammas):
        registry.use(LossConfig(gamma=gamma))
    return Metrics(engine, registry)


def test_counters_and_histograms_are_added(engine: Engine) -> None:
    one, two, three = (process(engine) for _ in range(3))
    one.count_request("POST", "/loss", 200, 0.0006)
    one.count_request("POST", "/loss", 200, 0.2)
    two.count_request("POST", "/loss", 200, 0.0002)
    two.count_request("POST", "/loss", 422, 100.0)
    two.count_phases({"compute": 0.02})
    three.count_request("GET", "/healthz", 200, 0.01)
    three.count_phases({"compute": 0.5, "decode": 0.03})
    text = summed([one.exposition(), two.exposition(), three.exposition()])
    assert value(text, "focal_loss_requests_total", method="POST", route="/loss", status="200") == 3
    assert value(text, "focal_loss_requests_total", method="POST", route="/loss", status="422") == 1
    assert value(text, "focal_loss_requests_total", method="GET", route="/healthz", status="200") == 1
    duration, labels = "focal_loss_request_duration_seconds", {"method": "POST", "route": "/loss"}
    assert value(text, f"{duration}_count", **labels) == 4
    assert value(text, f"{duration}_sum", **labels) == pytest.approx(100.2008)
    buckets = {bound: value(text, f"{duration}_bucket", le=str(bound), **labels) for bound in (*SECONDS, "+Inf")}
    assert [buckets[bound] for bound in (0.0005, 0.001, 0.1, 0.25, 60.0, "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert list(buckets.values()) == sorted(buckets.values())
    phase = "focal_loss_phase_duration_seconds"
    assert value(text, f"{phase}_sum", phase="compute") == pytest.approx(0.52)
    assert value(text, f"{phase}_count", phase="decode") == 1


def test_gauges_are_added_but_what_all_have_alike(engine: Engine) -> None:
    processes = [process(engine, gammas=2), process(engine, gammas=5)]
    alone = processes[0].exposition()
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(engine.admit()).hold(100)
        text = summed([one.exposition() for one in processes])
    # Both stand on one engine here, so each tells of all three.
    assert value(text, "focal_loss_requests_held") == 6
    assert value(text, "focal_loss_request_bytes_held") == 600
    assert value(text, "focal_loss_configs_held") == 5
    (info,) = [found for (name, _), found in samples(text).items() if name == "focal_loss_info"]
    assert info == 1
    assert [key for key in samples(alone) if key[0] == "focal_loss_info"] == [
        key for key in samples(text) if key[0] == "focal_loss_info"
    ]


def test_what_was_counted_began_with_the_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    expositions = []
    for now in (2000.0, 1000.0, 3000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        one = process(engine)
        one.count_request("GET", "/healthz", 200, 0.01)
        one.count_phases({"compute": 0.02})
        expositions.append(one.exposition())
    text = summed(expositions)
    created = {key[0]: found for key, found in samples(text).items() if key[0].endswith("_created")}
    assert set(created) >= {"focal_loss_requests_created", "focal_loss_phase_duration_seconds_created"}
    assert set(created.values()) == {1000.0}


def test_one_alone_comes_out_as_it_is(engine: Engine) -> None:
    one = process(engine, gammas=3)
    one.count_request("POST", '/lo"ss\\with\nodd letters', 200, 0.01)
    one.count_phases({"compute": 1e-9})
    assert samples(summed([one.exposition()])) == samples(one.exposition())
    assert summed([one.exposition()]) == one.exposition()


def test_order_changes_nothing(engine: Engine) -> None:
    one, other = process(engine, gammas=3), process(engine, gammas=1)
    one.count_request("POST", "/loss", 200, 0.01)
    other.count_phases({"compute": 0.1})
    here, there = one.exposition(), other.exposition()
    assert samples(summed([here, there])) == samples(summed([there, here]))
    kinds = {family.name: family.type for family in text_string_to_metric_families(summed([here, there]))}
    assert kinds == {family.name: family.type for family in text_string_to_metric_families(here)} | kinds
    assert kinds["focal_loss_requests"] == "counter"
    assert kinds["focal_loss_phase_duration_seconds"] == "histogram"
