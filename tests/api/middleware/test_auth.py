"""Keys as bearer token or as password of Basic."""

from __future__ import annotations

from base64 import b64encode

import pytest

from service.api.middleware.auth import key_of
from tests.services import ClientWith

KEY = "a-key-of-twenty-four-letters"
COLONS = "a:key:with:colons:in:it"


def basic(credentials: str | bytes) -> str:
    return f"Basic {b64encode(credentials.encode() if isinstance(credentials, str) else credentials).decode()}"


@pytest.mark.parametrize(
    ("authorization", "key"),
    [
        (f"Bearer {KEY}", KEY),
        (f"bearer   {KEY} ", KEY),
        (basic(f"label-studio:{KEY}"), KEY),
        (basic(f":{KEY}"), KEY),
        (basic(f"user:{KEY}").replace("Basic", "bAsIc"), KEY),
        (basic(f"user:{COLONS}"), COLONS),
        (basic(KEY), ""),
        (basic(f"{KEY}:"), ""),
        (basic(b"\xff:\xff"), ""),
        ("Basic !!!", ""),
        (f"Basic user:{KEY}", ""),
        (f"Digest {KEY}", ""),
        (KEY, ""),
        ("Bearer", ""),
        ("", ""),
    ],
)
def test_the_key_of_a_header(authorization: str, key: str) -> None:
    assert key_of(authorization) == key


def test_basic_on_every_route(client_with: ClientWith) -> None:
    client = client_with(api_keys=KEY)
    assert client.get("/runs", auth=("anyone", KEY)).status_code == 200
    assert client.put("/configs", json={}, auth=("", KEY)).is_success
    assert client.post("/loss", json={"logits": [[1, 2]], "targets": [0]}, auth=("", KEY)).is_success
    assert client.get("/runs", auth=(KEY, "wrong")).status_code == 401
    assert client.get("/runs", auth=(KEY, "")).status_code == 401
    reply = client.get("/runs", headers={"Authorization": f"Digest {KEY}"})
    # A challenge for Basic would make browsers ask for a password.
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")


def test_a_page_of_another_origin_cannot_use_the_password_that_a_browser_has_stored(client_with: ClientWith) -> None:
    client = client_with(api_keys=KEY)
    reply = client.delete("/runs/x", auth=("", KEY), headers={"Sec-Fetch-Site": "cross-site"})
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")
