"""`X-Forwarded-*` headers: believed from trusted proxies, removed from others; prefixes of paths."""

from __future__ import annotations

import tracemalloc
from functools import partial

import pytest
from starlette.datastructures import Headers
from starlette.types import Scope

from service.api.http.paths import route_path
from service.api.middleware.forwarded import ForwardedHeaders
from tests.api.middleware.apps import http_scope, scope_behind

FORWARDED = [
    ("Host", "service:8000"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "lab.example"),
    ("X-Forwarded-Prefix", "/focal/"),
]


def behind(scope: Scope, trusted: list[str], root_path: str = "") -> Scope:
    return scope_behind(partial(ForwardedHeaders, trusted=trusted, root_path=root_path), scope)


@pytest.mark.parametrize("trusted", [["127.0.0.1"], ["10.0.0.0/8", "127.0.0.0/8"], ["*"]])
def test_a_trusted_proxy_is_believed(trusted: list[str]) -> None:
    scope = behind(http_scope(headers=FORWARDED), trusted)
    assert (scope["client"][0], scope["scheme"], scope["root_path"]) == ("203.0.113.9", "https", "/focal")
    assert Headers(scope=scope)["x-forwarded-host"] == "lab.example"
    assert (scope["path"], scope["raw_path"], route_path(scope)) == ("/focal/runs", b"/focal/runs", "/runs")


@pytest.mark.parametrize("client", [("127.0.0.2", 1), ("::1", 1), None])
def test_other_clients_are_not_believed(client: tuple[str, int] | None) -> None:
    scope = behind(http_scope(headers=FORWARDED, client=client), ["127.0.0.1", "10.0.0.0/8"])
    assert (scope["client"], scope["scheme"], scope["root_path"], scope["path"]) == (client, "http", "", "/runs")
    assert Headers(scope=scope).keys() == ["host"]


@pytest.mark.parametrize(
    "prefix", ["", "/", "focal", "//evil.example", "/a//b", "/a b", "/a?x", "/a/..%2f", "/é", "/a\\"]
)
def test_an_invalid_prefix_is_ignored(prefix: str) -> None:
    scope = behind(http_scope(headers=[("X-Forwarded-Prefix", prefix)]), ["*"], root_path="/set")
    assert (scope["root_path"], scope["path"]) == ("/set", "/set/runs")


def test_a_long_prefix_takes_little_memory() -> None:
    scope = http_scope(headers=[("X-Forwarded-Prefix", "/a" * 30_000)])
    tracemalloc.start()
    try:
        prefix = behind(scope, ["*"])["root_path"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (prefix, peak < 1_000_000) == ("/a" * 30_000, True)


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/runs", "/runs"),
        ("/focal/runs", "/runs"),
        ("/focal", ""),
        ("/focal/", "/"),
        ("/", "/"),
        ("/focalize", "/focalize"),
        ("/runs/focal", "/runs/focal"),
    ],
)
def test_proxies_may_strip_the_prefix_or_leave_it(path: str, routed: str) -> None:
    scope = behind(http_scope(path=path), [], root_path="/focal")
    assert scope["root_path"] == "/focal"
    assert route_path(scope) == routed
