"""Mixed traffic for a soak: the worst requests of all routes, and clients that are slow or leave early."""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import httpx

from tests.bounds.measuring import send
from tests.bounds.stored_runs import RUNS, store_runs
from tests.bounds.worst import documented_routes, requests_of
from tests.bounds.worst_request import KB, WorstRequest

# Sizes of bodies; most are small. A size is chosen for each visit of a route.
SIZES = (KB, KB, 20 * KB, 20 * KB, 200 * KB, 2_000 * KB)
TIMEOUT_S = 120.0
# Headers of a request with this many bytes.
POST = b"POST /loss HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
Counts = Counter[str]


class Traffic:
    """Sends requests to a service for some seconds, from several threads.

    Args:
        url: Base URL of the service.
        seconds: How long.
        load: Share of the time in which the sender of the worst requests waits for a reply.
        seed: Seed of the order of the requests.
    """

    def __init__(self, url: str, seconds: float, load: float, seed: int) -> None:
        self._url, self._load, self._random = url, load, random.Random(seed)
        self._address = (httpx.URL(url).host, httpx.URL(url).port or 80)
        self._end = time.monotonic() + seconds
        self._names = (f"new{seed}-{number}" for number in itertools.count())
        self.counts: Counts = Counter()

    def run(self) -> Counts:
        """Send until the time is over, and count the replies by their status."""
        kinds: tuple[Callable[[], None], ...] = (self._worst_requests, self._slow_bodies, self._early_leavers)
        threads = [Thread(target=kind) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.counts

    def _goes_on(self) -> bool:
        return time.monotonic() < self._end

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=TIMEOUT_S, verify=False)

    def _worst_requests(self) -> None:
        with self._client() as client:
            while self._goes_on():
                for request in self._some_requests(client):
                    start = time.monotonic()
                    with suppress(httpx.TransportError):
                        for one in (*request.before, request):
                            reply = send(client, one, next(self._names))
                        self.counts[f"{reply.status_code}"] += 1
                    time.sleep((time.monotonic() - start) * (1 / self._load - 1))
                    if not self._goes_on():
                        break
                self._delete_new_runs(client)

    def _some_requests(self, client: httpx.Client) -> Iterator[WorstRequest]:
        """One worst request of every route, in a random order."""
        document = client.get("/openapi.json").json()
        for route in self._random.sample(sorted(documented_routes(document)), len(documented_routes(document))):
            yield self._random.choice(list(requests_of(document, route, self._random.choice(SIZES))))

    def _delete_new_runs(self, client: httpx.Client) -> None:
        for run in client.get("/runs").json()["runs"]:
            if run["run"].startswith("new"):
                client.delete(f"/runs/{run['run']}")

    def _slow_bodies(self) -> None:
        """A client that sends a byte a second, and one that does not read its reply."""
        question = b"GET /web/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        while self._goes_on():
            with (
                suppress(OSError),
                socket.create_connection(self._address) as slow,
                socket.create_connection(self._address) as unread,
            ):
                unread.sendall(question * 3)
                slow.sendall(POST % 1000)
                for _ in range(self._random.randrange(2, 40)):
                    slow.sendall(b" ")
                    time.sleep(1)
                    if not self._goes_on():
                        break
            self.counts["slow"] += 1

    def _early_leavers(self) -> None:
        """Clients that close in the headers, in a body, before a reply, and in a reply."""
        body = b'{"logits":[' + b"[0.1,0.2]," * 20_000 + b'[0.1,0.2]],"targets":[' + b"0," * 20_000 + b"0]}"
        question = b"GET /runs/rows/diagnostics?gamma=%d.5 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        while self._goes_on():
            for sent, reads in (
                (b"GET /runs HTT", 0),
                (POST % len(body) + body[:1000], 0),
                (POST % len(body) + body, 0),
                (POST % len(body) + body, 1000),
                (question % self._random.randrange(100), 0),
            ):
                with suppress(OSError), socket.create_connection(self._address, timeout=TIMEOUT_S) as connection:
                    connection.sendall(sent)
                    connection.recv(reads) if reads else time.sleep(0.2)
                self.counts["left early"] += 1
                time.sleep(1)


def run_traffic(url: str, seconds: float, load: float, seed: int) -> Counts:
    """Send mixed traffic; for a process of its own, so that it does not slow the measuring one."""
    return Traffic(url, seconds, load, seed).run()


def store_runs_again(url: str, size: int) -> None:
    """Delete all runs and store those of `RUNS`: reviews and queues would grow with each request."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=False) as client:
        for run in client.get("/runs").raise_for_status().json()["runs"]:
            client.delete(f"/runs/{run['run']}")
        store_runs(client, size)
        assert len(client.get("/runs").json()["runs"]) == len(RUNS)
