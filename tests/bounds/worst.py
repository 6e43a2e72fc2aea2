"""Send every route its worst requests: `python -m tests.bounds.worst --size 1000000 [ROUTE ...]` prints a table."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.bounds.by_hand import BY_HAND
from tests.bounds.from_document import worst_requests
from tests.bounds.measuring import Measurement, measure, send
from tests.bounds.stored_runs import PATHS, RUNS, store_runs
from tests.bounds.worst_request import MB, WorstRequest
from tests.live.server_process import ENDS_WITHIN_S, ServerProcess, running_server

# The machine is shared: a bar is missed if it is missed each time.
TRIES = 3
# No memory that earlier requests left for later ones, and queries that spill early.
SETTINGS = {"processes": "1", "max_kept_bytes": "0", "query_memory_bytes": str(64 * 2**20)}
WARM_UP_BYTES = 2_000
# Prefix of the runs for small requests: of the others no result is cached. Runs named `new...` do not count.
SMALL = "new-small-"


def documented_routes(document: Mapping[str, Any]) -> set[str]:
    """Method and path of each operation of an OpenAPI document."""
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


def requests_of(document: Mapping[str, Any], route: str, size: int, *, bodies: bool = True) -> Iterator[WorstRequest]:
    """The worst requests of a route, with bodies of about `size` bytes; without `bodies` only those made by hand."""
    yield from worst_requests(document, route, size, PATHS, bodies=bodies)
    if route in BY_HAND:
        yield from BY_HAND[route](size)


def costs_nothing(request: WorstRequest) -> bool:
    """True for one number in a body, of which each list of numbers has several."""
    return request.name.endswith((": number", ": integer", "item of number", "item of integer"))


class Bench:
    """A service with stored runs, started anew when a request has ended it.

    Args:
        folder: Folder for the data of its services.
        size: Bytes of the bodies and of each stored run.
        repeats: False to leave out what costs nothing, or what another route was sent: see `_is_repeated`.
    """

    def __init__(self, folder: Path, size: int, *, repeats: bool = True) -> None:
        self._repeats, self._sent = repeats, set[tuple[str, str]]()
        self._folder, self._size = folder, size
        self._stack = ExitStack()
        self._server: ServerProcess | None = None
        self._names = (f"new{number}" for number in itertools.count())
        self._warm: set[str] = set()

    @property
    def server(self) -> ServerProcess:
        if self._server is None or self._server.process.poll() is not None:
            self._stack.close()
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            self._server = self._stack.enter_context(running_server(folder, **SETTINGS))
            self._warm = set()
            with httpx.Client(base_url=self._server.url, timeout=60, verify=False) as client:
                store_runs(client, self._size)
                store_runs(client, WARM_UP_BYTES, SMALL)
        return self._server

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The OpenAPI document of the service."""
        document: Mapping[str, Any] = httpx.get(f"{self.server.url}/openapi.json").raise_for_status().json()
        return document

    def routes(self) -> list[str]:
        """All routes of the service."""
        return sorted({*documented_routes(self.document), *BY_HAND})

    def measure(self, route: str, *, bodies: bool = True) -> Iterator[Measurement]:
        """Measure the worst requests of a route (see `requests_of`); one that misses a bar is tried again."""
        for request in requests_of(self.document, route, self._size, bodies=bodies):
            if not self._repeats and self._is_repeated(request):
                continue
            self._warm_up(route, bodies)
            for attempt in range(1, TRIES + 1):
                server = self.server
                result = measure(server, request, next(self._names))
                if result.status == 0:
                    # Killed, or ended by itself.
                    server.process.wait(ENDS_WITHIN_S)
                if not result.may_be_noise or attempt == TRIES:
                    yield result
                    break

    def _is_repeated(self, request: WorstRequest) -> bool:
        """True for a parameter of a query that was sent before, and for one number in a body, which costs nothing."""
        query = request.name, request.path.partition("?")[2]
        is_known = request.name.startswith("query ") and query in self._sent
        self._sent.add(query)
        return is_known or costs_nothing(request)

    def stored_runs(self) -> set[str]:
        """Names of the runs that no request has created."""
        runs = httpx.get(f"{self.server.url}/runs", timeout=60).raise_for_status().json()["runs"]
        return {run["run"] for run in runs if not run["run"].startswith("new")}

    def _warm_up(self, route: str, bodies: bool) -> None:
        """Send small requests first: modules and compiled code that a route loads once do not count."""
        server = self.server
        if route not in self._warm:
            self._warm.add(route)
            with httpx.Client(base_url=server.url, timeout=60, verify=False) as client:
                for request in requests_of(self.document, route, WARM_UP_BYTES, bodies=bodies):
                    if costs_nothing(request):
                        continue
                    for one in (*request.before, request):
                        with suppress(httpx.TransportError):
                            send(client, _of_small_runs(one), next(self._names))

    def close(self) -> None:
        self._stack.close()


def _of_small_runs(request: WorstRequest) -> WorstRequest:
    """The same request about the small runs."""
    path = request.path
    for run in RUNS:
        for before in ("runs", "compare", "gain"):
            path = path.replace(f"/{before}/{run}", f"/{before}/{SMALL}{run}")
    return replace(request, path=path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=MB, help="bytes of the bodies")
    parser.add_argument("routes", nargs="*", help="such as 'POST /loss'; default: all")
    arguments = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.size)
        try:
            for route in arguments.routes or bench.routes():
                for result in bench.measure(route):
                    missed += bool(result.faults)
                    print(result.line, "| " + "; ".join(result.faults) if result.faults else "", flush=True)
        finally:
            bench.close()
    print(f"{missed} requests missed a bar")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
