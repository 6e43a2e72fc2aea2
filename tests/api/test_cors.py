"""Pages of other origins: `cors_origins`, and a service without it."""

from __future__ import annotations

import httpx
import pytest

from tests.services import ClientWith

LAB, OTHER = "https://lab.example", "https://other.example"
KEY = "a-key-of-twenty-four-letters"
EXPOSED = {
    "X-Request-ID",
    "Link",
    "Retry-After",
    "Content-Disposition",
    "Server-Timing",
    "ETag",
    "Focal-Loss-Digest",
}


def preflight(client: httpx.Client, origin: str, method: str = "PUT") -> httpx.Response:
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    return client.options("/runs/cors", headers=headers | {"Origin": origin})


@pytest.mark.parametrize("keys", [{}, {"api_keys": KEY}], ids=["without keys", "with keys"])
def test_a_page_of_an_allowed_origin(client_with: ClientWith, keys: dict[str, str]) -> None:
    client = client_with(cors_origins=LAB, **keys)
    allowed = preflight(client, LAB)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == LAB
    assert {"PUT", "PATCH", "DELETE"} <= set(allowed.headers["access-control-allow-methods"].split(", "))
    assert allowed.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in allowed.headers

    page = {"Origin": LAB, "Sec-Fetch-Site": "cross-site"}
    authorized = page | ({"Authorization": f"Bearer {KEY}"} if keys else {})
    for reply in (
        client.put("/runs/cors", json={}, headers=authorized),
        client.get("/runs/cors", headers=authorized),
        client.get("/runs/none", headers=authorized),
        client.get("/runs/cors", headers=page),
    ):
        assert reply.headers["access-control-allow-origin"] == LAB
        assert set(reply.headers["access-control-expose-headers"].split(", ")) == EXPOSED
        assert "Origin" in reply.headers["vary"]
        assert reply.headers["x-request-id"]
    assert client.get("/runs/cors", headers=page).status_code == (401 if keys else 200)


def test_a_page_of_another_origin(client_with: ClientWith) -> None:
    client = client_with(cors_origins=LAB)
    refused = preflight(client, OTHER)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    page = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    assert "access-control-allow-origin" not in client.get("/runs", headers=page).headers
    change = client.put("/runs/cors-other", json={}, headers=page)
    assert (change.status_code, change.json()["code"]) == (403, "cross_site")
    assert "cors_origins" in change.json()["detail"]


def test_without_the_setting_no_origin_is_allowed(client_with: ClientWith) -> None:
    client = client_with()
    reply = preflight(client, LAB)
    assert (reply.status_code, reply.headers["allow"]) == (204, "GET, PUT, DELETE, HEAD, OPTIONS")
    for answered in (reply, client.get("/runs", headers={"Origin": LAB})):
        assert not [name for name in answered.headers if name.startswith("access-control-")]
    assert client.put("/runs/cors", json={}, headers={"Origin": LAB}).status_code == 403


def test_an_allowed_host(client_with: ClientWith) -> None:
    client = client_with(allowed_hosts="focal.example")
    assert client.get("/runs", headers={"Host": "focal.example:8000"}).status_code == 200
    reply = client.get("/runs", headers={"Host": "evil.example"})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden_host")
    assert "FOCAL_LOSS_ALLOWED_HOSTS" in reply.json()["detail"]
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_a_path_prefix_is_in_every_address(client_with: ClientWith) -> None:
    client = client_with(root_path="/focal")
    batch = {"logits": [[1, 2], [2, 1]], "targets": [0, 1], "ids": ["a", "b"]}
    client.put("/runs/prefix", json={}).raise_for_status()
    client.put("/focal/runs/prefix/epochs/0/batches/b", json=batch).raise_for_status()
    assert client.post("/focal/loss", json={"logits": [[1, 2]], "targets": [0]}).status_code == 200
    link = client.get("/runs/prefix/examples?limit=1").headers["link"]
    assert link.startswith("</focal/runs/prefix/examples?")
    following = client.get(link[1 : link.index(">")]).json()
    assert len(following["rows"]) == 1
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/focal"}]
    assert client.get("/focal/web/app.js").status_code == client.get("/web/app.js").status_code == 200
    metrics = client.get("/focal/metrics").text
    assert 'route="/loss"' in metrics
    assert 'route="/focal' not in metrics
