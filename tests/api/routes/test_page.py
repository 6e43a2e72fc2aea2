"""The page as it is served, and signing in to it: headers, cookies, tokens, and whom a session is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.app import create_app
from service.api.middleware.sessions import COOKIE, LIFETIME_S, Sessions
from service.schema.api_keys import ApiKey
from service.settings import Settings

KEY, OTHER_KEY = "a-key-of-twenty-four-letters", "another-key-of-24-letters"
OURS = {"Sec-Fetch-Site": "same-origin"}
APPS: dict[tuple[str, ...], FastAPI] = {}
ADDRESS = "http://localhost:8000"


def ask(
    method: str,
    path: str,
    *,
    keys: tuple[str, ...] = (KEY, OTHER_KEY),
    headers: Mapping[str, str] | None = None,
    address: str = ADDRESS,
    **body: Any,
) -> httpx.Response:
    """One request to an app with these keys."""
    if keys not in APPS:
        APPS[keys] = create_app(Settings(device="cpu", api_keys=",".join(keys)))  # type: ignore[arg-type]

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=APPS[keys]), base_url=address) as client:
            return await client.request(method, path, headers=dict(headers or {}), **body)

    return asyncio.run(send())


@pytest.fixture(scope="module", autouse=True)
def _apps_are_closed() -> Iterator[None]:
    yield
    while APPS:
        service = APPS.popitem()[1].state.service
        service.close()
        service.runs.close()


def sessions(*keys: str) -> Sessions:
    return Sessions([ApiKey.parse(key) for key in keys])


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}_8000={token}"}


SIGNED_IN = cookie(sessions(KEY).token(0))


def test_the_page_needs_no_key_and_says_what_it_may_load() -> None:
    page = ask("GET", "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


def test_the_page_holds_no_inline_script_or_style_and_loads_only_its_own_files() -> None:
    text = ask("GET", "/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://|//cdn", text)
    for name in re.findall(r'(?:src|href)="(web/[^"]+)"', text):
        assert ask("GET", f"/{name}").status_code == 200
    folder = Path(str(files("service").joinpath("web")))
    for entry in (path for path in folder.rglob("*") if path.is_file()):
        code = entry.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code), entry.name
        # Declarations of types are for the type checker.
        imports = re.findall(r'^(?:import|\}) (?:.* )?from "([^"]+)"', code, re.MULTILINE)
        for loaded in imports if entry.suffix == ".js" else []:
            name = (entry.parent / loaded).resolve().relative_to(folder)
            assert ask("GET", f"/web/{name}").headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_file_is_sent_again_only_when_it_has_changed() -> None:
    first = ask("GET", "/web/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}"):
        again = ask("GET", "/web/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ask("GET", "/web/app.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_files_are_compressed_and_counted_by_their_mount() -> None:
    reply = ask("GET", "/web/app.js", headers={"Accept-Encoding": "gzip"}, keys=())
    assert reply.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in reply.headers["vary"].lower()
    assert "content-encoding" not in ask("GET", "/web/app.js", headers={"Accept-Encoding": "identity"}).headers
    assert 'focal_loss_requests_total{method="GET",route="/web",status="200"}' in ask("GET", "/metrics", keys=()).text


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web/nothing.js", "/web/..%2fapp.py", "/web/%2e%2e/app.py", "/web/..%5capp.py", "/web//etc/passwd"],
)
def test_no_path_leads_out_of_the_folder(path: str) -> None:
    # Without keys: none of these is hidden behind a 401.
    reply = ask("GET", path, keys=())
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_a_key_signs_in_with_a_cookie_that_scripts_and_other_sites_cannot_use() -> None:
    reply = ask("POST", "/session", json={"key": OTHER_KEY}, headers=OURS)
    assert (reply.status_code, reply.headers["cache-control"]) == (204, "no-store")
    value, *flags = reply.headers["set-cookie"].split("; ")
    assert {flag.lower() for flag in flags} == {"httponly", "samesite=strict", "path=/", f"max-age={LIFETIME_S}"}
    assert OTHER_KEY not in value
    token = value.removeprefix(f"{COOKIE}_8000=")
    assert ask("GET", "/configs", headers=cookie(token)).status_code == 200
    assert ask("GET", "/session", headers=cookie(token)).json() == {
        "needs_key": True,
        "signed_in": True,
        "name": None,
        "role": "owner",
    }
    secure = ask("POST", "/session", json={"key": KEY}, headers=OURS, address="https://localhost")
    assert "Secure" in secure.headers["set-cookie"].split("; ")


def test_services_on_other_ports_and_paths_have_other_cookies() -> None:
    def set_cookie(address: str, **headers: str) -> str:
        sent = OURS | {name.replace("_", "-"): value for name, value in headers.items()}
        return ask("POST", "/session", json={"key": KEY}, headers=sent, address=address).headers["set-cookie"]

    assert set_cookie("http://localhost").startswith(f"{COOKIE}=")
    assert set_cookie("http://localhost:9000").startswith(f"{COOKIE}_9000=")
    assert set_cookie("http://[::1]").startswith(f"{COOKIE}=")
    assert set_cookie("http://localhost", x_forwarded_host="lab.example:8080").startswith(f"{COOKIE}_8080=")
    assert "; Path=/focal/;" in set_cookie("http://localhost", x_forwarded_prefix="/focal")
    assert "; Secure" in set_cookie("http://localhost", x_forwarded_proto="https")
    other = {"Cookie": f"{COOKIE}_9000={sessions(KEY).token(0)}"}
    assert ask("GET", "/configs", headers=other).status_code == 401


def test_signing_out_forgets_the_cookie() -> None:
    reply = ask("DELETE", "/session", headers=SIGNED_IN | OURS)
    assert reply.status_code == 204
    assert f'{COOKIE}_8000=""' in reply.headers["set-cookie"]
    assert "Max-Age=0" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"key": "wrong"}', 401, "unauthorized"),
        (b'{"key": ""}', 401, "unauthorized"),
        (b'{"key": 7}', 400, "malformed_body"),
        (b'["key"]', 400, "malformed_body"),
        (b"key", 400, "malformed_body"),
        (b'{"key": "' + b"x" * 5000 + b'"}', 413, "body_too_large"),
    ],
)
def test_what_is_no_key_signs_nobody_in(body: bytes, status: int, code: str) -> None:
    reply = ask("POST", "/session", content=body, headers=OURS)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert "set-cookie" not in reply.headers


def test_without_keys_nobody_signs_in() -> None:
    assert ask("GET", "/session", keys=()).json() == {
        "needs_key": False,
        "signed_in": False,
        "name": None,
        "role": "owner",
    }
    assert ask("POST", "/session", keys=(), json={"key": ""}, headers=OURS).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": ADDRESS},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://elsewhere.test"},
        {"Origin": "null"},
    ],
)
def test_a_session_changes_nothing_from_elsewhere(headers: dict[str, str]) -> None:
    for method, path in (("DELETE", "/configs/fl_0"), ("PUT", "/configs"), ("POST", "/loss")):
        reply = ask(method, path, headers=SIGNED_IN | headers)
        assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")
    assert ask("POST", "/session", json={"key": KEY}, headers=headers).status_code == 403
    assert ask("GET", "/configs", headers=SIGNED_IN | headers).status_code == 200
    # A key in the header allows changes from programs, which do not name an origin.
    key = {"Authorization": f"Bearer {KEY}"}
    assert ask("PUT", "/configs", json={}, headers=SIGNED_IN | headers | key).is_success == (not headers)


def test_a_proxy_names_the_host_of_the_page() -> None:
    page = {"Origin": "http://lab.example:8080", "Host": "lab.example"}
    refused = ask("POST", "/session", json={"key": KEY}, headers=page)
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    assert "forwarded_allow_ips" in refused.json()["detail"]
    named = page | {"X-Forwarded-Host": "lab.example:8080"}
    assert ask("POST", "/session", json={"key": KEY}, headers=named).status_code == 204


@pytest.mark.parametrize("headers", [OURS, {"Origin": ADDRESS}])
def test_a_session_changes_things_from_the_page(headers: dict[str, str]) -> None:
    assert ask("PUT", "/configs", json={}, headers=SIGNED_IN | headers).status_code in (200, 201)


def test_a_wrong_key_is_wrong_for_who_is_signed_in_too() -> None:
    reply = ask("GET", "/configs", headers=SIGNED_IN | {"Authorization": "Bearer wrong"})
    assert reply.status_code == 401


def test_a_token_ends_with_its_time_and_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now)
    both = sessions(KEY, OTHER_KEY)
    token = both.token(1)
    assert both.token(1) != token
    assert sessions(OTHER_KEY).signer_index(token) is not None
    assert sessions(KEY).signer_index(token) is None
    now += LIFETIME_S
    assert both.signer_index(token) is not None
    now += 1
    assert both.signer_index(token) is None
    assert ask("GET", "/configs", headers=cookie(token)).status_code == 401


@pytest.mark.parametrize("token", ["", ".", "..", "9999999999", "9999999999.a.b", "x.y.z", "é.é.é"])
def test_what_we_did_not_sign_is_no_token(token: str) -> None:
    assert sessions(KEY).signer_index(token) is None
    good = sessions(KEY).token(0)
    for place in range(0, len(good), 5):
        changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        assert sessions(KEY).signer_index(changed) is None
