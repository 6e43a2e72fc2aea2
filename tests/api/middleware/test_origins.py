"""Refused requests of web pages: hosts of DNS rebinding, and changes from other origins."""

from __future__ import annotations

from functools import partial

import pytest

from service.api.middleware.origins import OriginCheck
from tests.api.middleware.apps import http_scope, refusal
from tests.lanes import mostly_slow

ALLOWED = ["focal.example"]
NOTEBOOK = "http://localhost:8888"
HERE = ("Host", "127.0.0.1:8000")


def code(*headers: tuple[str, str], hosts: list[str] | None = ALLOWED, method: str = "GET", path: str = "/runs") -> str:
    check = partial(OriginCheck, hosts=hosts, cors_origins=[NOTEBOOK])
    return refusal(check, http_scope(method, path, headers))


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.0.0.1:8000",
            "127.255.3.4:1",
            "localhost",
            "LOCALHOST:8000",
            "localhost.:8000",
            "focal.localhost:8000",
            "[::1]",
            "[::1]:8000",
            "focal.example",
            "Focal.Example:8443",
            "focal.example.",
        ],
    )
    def test_loopback_names_and_allowed_hosts_pass(self, host: str) -> None:
        assert code(("Host", host)) == ""
        assert code(("Host", host), method="DELETE") == ""

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8000",
            "evillocalhost",
            "0.0.0.0:8000",
            "192.168.1.7:8000",
            "128.0.0.1",
            "[::]",
            "[fe80::1]:8000",
            "[::1].evil.example",
            "[::1",
            "user@localhost",
            "localhost:8000:evil.example",
            "x.focal.example",
            "focal.example.evil.example",
            "127.1",
            "2130706433",
            "",
            "x" * 70_000,
        ],
    )
    def test_other_hosts_are_refused(self, host: str) -> None:
        assert code(("Host", host)) == "forbidden_host"
        assert code(("Host", host), ("Sec-Fetch-Site", "same-origin"), method="DELETE") == "forbidden_host"

    def test_every_host_that_a_request_names_has_to_be_allowed(self) -> None:
        assert code(HERE, ("Host", "evil.example")) == "forbidden_host"
        assert code(HERE, ("X-Forwarded-Host", "evil.example")) == "forbidden_host"
        # A rebound page may set X-Forwarded-Host itself.
        assert code(("Host", "evil.example"), ("X-Forwarded-Host", "localhost")) == "forbidden_host"
        assert code(HERE, ("X-Forwarded-Host", "focal.example")) == ""

    def test_a_request_without_host_is_not_from_a_browser(self) -> None:
        assert code() == ""

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_health_checks_may_use_any_host(self, path: str) -> None:
        assert code(("Host", "10.0.0.7:8000"), path=path) == ""
        assert code(("Host", "10.0.0.7:8000"), path=path + "/") == "forbidden_host"

    def test_a_bare_word_passes_for_changes_of_programs_alone(self) -> None:
        assert code(("Host", "x"), method="POST") == ""
        assert code(("Host", "x:8000"), method="DELETE") == ""
        assert code(("Host", "x")) == "forbidden_host"
        assert code(("Host", "evil.example"), method="POST") == "forbidden_host"
        for header in (("Origin", "http://x"), ("Sec-Fetch-Site", "same-origin")):
            assert code(("Host", "x"), header, method="POST") == "forbidden_host"

    def test_without_a_list_any_host_is_allowed(self) -> None:
        assert code(("Host", "evil.example"), hosts=None) == ""

    def test_without_further_names_loopback_names_are_allowed(self) -> None:
        assert code(HERE, hosts=[]) == ""
        assert code(("Host", "focal.example"), hosts=[]) == "forbidden_host"


OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://elsewhere.example"},
    {"Origin": "http://127.0.0.1:8000"},
    {"Origin": "HTTP://127.0.0.1:8000"},
    {"Origin": NOTEBOOK},
    {"Origin": NOTEBOOK, "Sec-Fetch-Site": "same-site"},
    {"Origin": NOTEBOOK, "Sec-Fetch-Site": "cross-site"},
]
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://evil.example:8000"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Origin": "http://127.0.0.1:8000.evil.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "http://localhost:8889"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://[::1"},
    {"Origin": "127.0.0.1:8000"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-site"},
]


class TestOrigins:
    @pytest.mark.parametrize("headers", OWN)
    def test_the_own_page_allowed_pages_and_programs_may_change_something(self, headers: dict[str, str]) -> None:
        assert code(HERE, *headers.items(), method="POST") == ""

    @pytest.mark.parametrize("method", mostly_slow(["POST", "PUT", "PATCH", "DELETE", "QUERY"], quick=2))
    @pytest.mark.parametrize("headers", FOREIGN)
    def test_other_pages_may_not(self, headers: dict[str, str], method: str) -> None:
        assert code(HERE, *headers.items(), method=method) == "cross_site"
        assert code(HERE, *headers.items(), method=method, hosts=None) == "cross_site"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    @pytest.mark.parametrize("headers", FOREIGN)
    def test_browsers_keep_replies_from_other_pages(self, headers: dict[str, str], method: str) -> None:
        assert code(HERE, *headers.items(), method=method) == ""

    def test_an_origin_without_host_is_foreign(self) -> None:
        assert code(("Origin", "null"), method="POST", hosts=None) == "cross_site"
        assert code(("Origin", ""), method="POST", hosts=None) == "cross_site"

    def test_a_trusted_proxy_names_the_host_that_the_browser_used(self) -> None:
        behind = [("Host", "lab.example"), ("X-Forwarded-Host", "lab.example:8080")]
        assert code(*behind, ("Origin", "http://lab.example:8080"), method="POST", hosts=None) == ""
        assert code(*behind, ("Origin", "http://lab.example:8081"), method="POST", hosts=None) == "cross_site"

    def test_default_ports_may_be_missing(self) -> None:
        assert code(("Host", "lab.example:443"), ("Origin", "https://lab.example"), method="POST", hosts=None) == ""
        assert code(("Host", "lab.example"), ("Origin", "https://lab.example:443"), method="POST", hosts=None) == ""
        named = code(("Host", "lab.example:443"), ("Origin", "http://lab.example"), method="POST", hosts=None)
        assert named == "cross_site"
