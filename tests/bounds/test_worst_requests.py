"""No request takes the service down: each route gets its worst requests, and its memory and time are bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from service.api.app import create_app
from service.settings import Settings
from tests.bounds.by_hand import BY_HAND
from tests.bounds.measuring import Measurement
from tests.bounds.stored_runs import RUNS
from tests.bounds.worst import Bench, documented_routes
from tests.bounds.worst_request import MB, routes_of

SIZE = MB // 2
# Routes that read the same JSON as another one. `make soak` sends its parts to them, too.
SAME_BODIES = (
    "PUT /runs/{run}/epochs/{epoch}/batches/{batch}",
    "POST /v2/models/{model}/versions/{version}/infer",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bounds"), SIZE, repeats=False)
    yield bench
    bench.close()


def test_no_route_is_forgotten(tmp_path: Path) -> None:
    app = create_app(Settings(device="cpu", data_dir=str(tmp_path)))
    app.state.service.close()
    documented = documented_routes(app.openapi())
    with_bodies = {route for route in documented if not route.startswith(("GET", "DELETE"))}
    assert routes_of(app) == documented | set(BY_HAND)
    # The types of a route know nothing of tensors, and of what a body refers to.
    assert (
        not with_bodies
        - set(BY_HAND)
        - {
            "POST /runs/{run}/label-studio/setup",
        }
    )


@pytest.mark.live
@pytest.mark.slow
def test_worst_requests_are_bounded(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    results = [result for route in bench.routes() for result in bench.measure(route, bodies=route not in SAME_BODIES)]
    missed = [f"{result.line} | {'; '.join(result.faults)}" for result in results if result.faults]
    assert not missed, "\n".join(missed)
    # Without their runs the requests would cost nothing.
    assert bench.stored_runs() == set(RUNS)
    record_property("figures", summary(results))


def summary(results: Sequence[Measurement]) -> str:
    """The number of requests, and those that came next to the bars."""
    memory = max(results, key=lambda result: result.grown_bytes)
    time = max(results, key=lambda result: result.seconds)
    health = max(result.health_s for result in results)
    first = f"{len(results)} requests, slowest /healthz {health:.2f} s"
    return "\n  ".join([first, f"most memory: {memory.line}", f"most time: {time.line}"])
