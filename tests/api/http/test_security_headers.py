"""Every reply has security headers, and data stays out of caches."""

from __future__ import annotations

import pytest

from service.api.http.security_headers import with_security_headers
from tests.services import ClientWith

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
EXPECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
KEY = "a-key-of-twenty-four-letters"


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/runs", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/session", 200),
        ("GET", "/v2", 200),
        ("OPTIONS", "/runs", 204),
        ("GET", "/runs/", 307),
        ("POST", "/loss", 415),
        ("GET", "/runs?x=1", 200),
        ("GET", "/runs/none", 404),
        ("GET", "/nothing", 404),
        ("GET", "/web/nothing.js", 404),
        ("PATCH", "/runs", 405),
        ("POST", "/v2/models/focal_loss/infer", 422),
    ],
)
def test_data_and_errors(client_with: ClientWith, method: str, url: str, status: int) -> None:
    reply = client_with().request(method, url, content=b"{}" if method == "POST" else None)
    assert reply.status_code == status
    assert EXPECTED.items() <= reply.headers.items()
    assert reply.headers["content-security-policy"] == DATA_POLICY
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("url", ["/", "/web/app.js", "/web/icon.svg", "/docs", "/docs/assets/swagger-ui.css"])
def test_pages_and_their_files(client_with: ClientWith, url: str) -> None:
    client = client_with()
    reply = client.get(url)
    assert reply.status_code == 200
    assert EXPECTED.items() <= reply.headers.items()
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-cache"
    if tag := reply.headers.get("etag"):
        known = client.get(url, headers={"If-None-Match": tag})
        assert known.status_code == 304
        assert EXPECTED.items() <= known.headers.items()


def test_refused_requests(client_with: ClientWith) -> None:
    client = client_with(api_keys=KEY)
    page = {"Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {KEY}"}
    for reply in (client.get("/runs"), client.delete("/runs/x", headers=page), client.get("/runs")):
        assert reply.status_code in (401, 403)
        assert EXPECTED.items() <= reply.headers.items()


def test_the_policy_of_the_docs_allows_the_files_and_the_script_of_the_page(client_with: ClientWith) -> None:
    policy = client_with().get("/docs").headers["content-security-policy"]
    assert policy.count("'sha256-") == 1
    assert "script-src 'self' 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def test_headers_of_a_route_are_kept() -> None:
    own = [(b"cache-control", b"no-cache"), (b"content-security-policy", b"default-src 'self'"), (b"etag", b'"1"')]
    headers = with_security_headers(own)
    assert headers[:3] == own
    assert len({name for name, _ in headers}) == len(headers)
