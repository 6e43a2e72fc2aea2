"""A request that is as expensive as its route allows, and the routes of the app."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

JSON = {"Content-Type": "application/json"}
# The request line and headers may have 64 KiB.
LONGEST_URL = 60_000
NEW = "{new}"
KB, MB = 1_000, 1_000_000


@dataclass(frozen=True)
class WorstRequest:
    """A request of a route.

    Args:
        name: The kind of the request, for the report.
        path: Path and query, encoded; `{new}` stands for a name that no other request has.
        body: The body, or a function that makes it.
        chunked: True to send the body in small chunks without `Content-Length`.
        inflated: Bytes of the body after decompression; 0 for a body that is not compressed.
        before: Requests to send first, which are not measured.
    """

    method: str
    name: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    inflated: int = 0
    before: Sequence[WorstRequest] = ()

    @property
    def size(self) -> int:
        """Bytes of the body after decompression, and of the path."""
        return max(len(self.body), self.inflated) + len(self.path)

    def compressed(self) -> WorstRequest:
        """The request with a gzip body."""
        body = gzip.compress(self.body, 1)
        headers = {**self.headers, "Content-Encoding": "gzip"}
        return replace(self, name=f"{self.name}, gzip", body=body, headers=headers, inflated=len(self.body))

    def in_chunks(self) -> WorstRequest:
        """The request with its body in chunks."""
        return replace(self, name=f"{self.name}, chunked", chunked=True)


# Makes the worst requests of a route, of about a number of bytes.
Make = Callable[[int], Iterator[WorstRequest]]


def json_request(method: str, name: str, path: str, value: Any) -> WorstRequest:
    """A request with a JSON body; bytes are sent as they are."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return WorstRequest(method, name, path, body, JSON)


def routes_of(app: FastAPI) -> set[str]:
    """Method and path of each route, such as `GET /runs/{run}`; a mounted folder is `GET` and its path."""
    found = set()
    for route in iter_route_contexts(app.routes):
        path = str(route.path).replace(":text}", "}")
        found |= {f"{method} {path}" for method in (route.methods or {"GET"}) if method != "HEAD"}
    return found
