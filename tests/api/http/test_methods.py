"""HEAD, OPTIONS, 405 and redirects."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.lanes import mostly_slow
from tests.services import ClientWith

ROUTES = [
    ("/", "GET, HEAD, OPTIONS"),
    ("/loss", "POST, OPTIONS"),
    ("/configs", "GET, PUT, HEAD, OPTIONS"),
    ("/runs", "GET, HEAD, OPTIONS"),
    ("/runs/methods", "GET, PUT, DELETE, HEAD, OPTIONS"),
    ("/runs/methods/queues", "GET, POST, HEAD, OPTIONS"),
    ("/session", "GET, POST, DELETE, HEAD, OPTIONS"),
    ("/web/app.js", "GET, HEAD, OPTIONS"),
    ("/docs/assets/swagger-ui.css", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
]
READABLE = [
    "/",
    "/web/app.js",
    "/docs",
    "/docs/assets/swagger-ui.css",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/configs",
    "/session",
    "/v2",
    "/v2/health/live",
    "/runs",
    "/runs/methods",
    "/runs/methods/examples",
    "/runs/methods/examples/a",
    "/runs/methods/diagnostics",
    "/runs/methods/export?format=csv",
    "/runs/methods/export?format=parquet",
    "/runs/none",
    "/nothing",
]
# They differ from request to request; an export is a new file each time.
VARYING = {"x-request-id", "server-timing", "date", "last-modified", "etag"}


@pytest.fixture
def client(client_with: ClientWith) -> Iterator[httpx.Client]:
    client = client_with()
    batch = {"logits": [[1, 2], [2, 1]], "targets": [0, 1], "ids": ["a", "b"]}
    client.put("/runs/methods", json={}).raise_for_status()
    client.put("/runs/methods/epochs/0/batches/b", json=batch).raise_for_status()
    return client


@pytest.mark.parametrize("url", mostly_slow(READABLE, quick=7))
def test_head_has_the_headers_of_get(client: httpx.Client, url: str) -> None:
    get, head = client.get(url), client.head(url)
    assert (head.status_code, head.content) == (get.status_code, b"")
    ours, theirs = ({name: reply.headers[name] for name in reply.headers.keys() - VARYING} for reply in (head, get))
    if url == "/metrics":
        del ours["content-length"], theirs["content-length"]
    assert ours == theirs


def test_head_counts_as_a_request_of_its_route(client: httpx.Client) -> None:
    client.head("/runs/methods")
    client.head("/web/app.js")
    metrics = client.get("/metrics").text
    assert 'focal_loss_requests_total{method="HEAD",route="/runs/{run}",status="200"}' in metrics
    assert 'focal_loss_requests_total{method="HEAD",route="/web",status="200"}' in metrics


@pytest.mark.parametrize(("path", "methods"), ROUTES)
def test_allow_names_all_methods_of_a_path(client: httpx.Client, path: str, methods: str) -> None:
    options, refused = client.options(path), client.patch(path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", methods)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == methods


def test_a_path_without_routes_has_no_methods(client: httpx.Client) -> None:
    for method in ("OPTIONS", "PATCH", "GET"):
        assert client.request(method, "/nothing").status_code == 404


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/runs/", "/runs"),
        ("/runs///", "/runs"),
        ("/docs/", "/docs"),
        ("/runs/?a=%20b", "/runs?a=%20b"),
        ("/runs/%C3%A9/", "/runs/%C3%A9"),
    ],
)
def test_a_slash_too_many_is_a_redirect_without_a_host(client: httpx.Client, url: str, location: str) -> None:
    reply = client.get(url)
    assert (reply.status_code, reply.headers["location"]) == (307, location)
    behind = client.get(url, headers={"X-Forwarded-Prefix": "/focal"})
    assert (behind.status_code, behind.headers["location"]) == (307, f"/focal{location}")


def test_the_prefix_alone_leads_to_the_page(client: httpx.Client) -> None:
    behind = {"X-Forwarded-Prefix": "/focal"}
    assert client.get("/focal", headers=behind).headers["location"] == "/focal/"
    assert client.get("/focal/", headers=behind).headers["content-type"].startswith("text/html")


def test_a_redirect_leads_to_no_other_host(client: httpx.Client) -> None:
    url = str(client.base_url).rstrip("/")
    for path in ("//evil.example/", "//evil.example/runs/", "/\\evil.example/", "///"):
        reply = client.get(httpx.URL(url).copy_with(raw_path=path.encode()))
        assert not reply.headers.get("location", "").startswith(("//", "/\\", "http")), path
        assert reply.status_code in (404, 307), path
