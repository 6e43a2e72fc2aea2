"""Protection against web pages of other origins: DNS rebinding and cross-site requests."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.media_types import is_from_browser
from service.api.http.methods import SAFE_METHODS
from service.api.http.paths import OPEN_PATHS, route_path
from service.errors import CrossSiteError, ForbiddenHostError

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
LONGEST_HOST = 300


class OriginCheck:
    """Refuses requests to foreign host names, and changes that a page of another origin requests.

    With a foreign name that resolves to this machine (DNS rebinding), a web page would be of the same origin as the
    service. Programs other than browsers send neither `Origin` nor `Sec-Fetch-Site`.

    Args:
        app: The wrapped ASGI app.
        hosts: Names in `Host`, besides loopback names, in lower case; None: any name.
        cors_origins: Origins whose pages may send requests, such as `https://lab.example`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, cors_origins: Collection[str]) -> None:
        self.app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._cors_origins = frozenset(cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            changes, from_browser = scope["method"] not in SAFE_METHODS, is_from_browser(headers)
            if self._hosts is not None and route_path(scope) not in OPEN_PATHS:
                # Browsers send `Origin` with every change, so a change without it comes from a program.
                self._check_hosts(headers, is_program=changes and not from_browser)
            if changes and from_browser and headers.get("origin") not in self._cors_origins:
                require_same_origin(headers)
        await self.app(scope, receive, send)

    def _check_hosts(self, headers: Headers, *, is_program: bool) -> None:
        # Scripts like to send a bare word as `Host`, and public DNS has no such names.
        for host in hosts_of(headers):
            name = host_name(host[:LONGEST_HOST])
            if not is_loopback_name(name) and name not in (self._hosts or ()) and not (is_program and is_bare(name)):
                raise ForbiddenHostError(
                    f"the host {name[:100]!r} of the request is not allowed: use localhost or 127.0.0.1, or add the "
                    "name to allowed_hosts (FOCAL_LOSS_ALLOWED_HOSTS)"
                )


def require_same_origin(headers: Headers) -> None:
    """Refuse a request unless a browser sends it for a page of this service.

    Browsers name the origin of a request in `Sec-Fetch-Site`, over plain HTTP in `Origin` alone.

    Raises:
        CrossSiteError: The request comes from another origin, or does not name its origin.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site == "same-origin" or (site is None and origin is not None and _is_own(origin, hosts_of(headers))):
        return
    raise CrossSiteError(
        f"only the service's own page may change something from a browser, and this request comes from "
        f"{(origin or site or 'an unknown origin')[:100]!r}. Add the origin of another page to cors_origins; behind a "
        "proxy, forward Host with its port, or X-Forwarded-Host from an address in forwarded_allow_ips"
    )


def hosts_of(headers: Headers) -> list[str]:
    """The hosts that the client and then trusted proxies name; `ForwardedHeaders` has removed the headers of others."""
    hosts, forwarded = [], []
    for name, value in headers.raw:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"x-forwarded-host":
            forwarded.append(value.decode("latin-1").rpartition(",")[2].strip())
    return hosts + forwarded


def _is_own(origin: str, hosts: list[str]) -> bool:
    """True if an `Origin` has one of these hosts, with the same port."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    port = DEFAULT_PORTS.get(parts.scheme, "")
    own = {host.lower().removesuffix(port) for host in hosts}
    return bool(parts.netloc) and parts.netloc.removesuffix(port) in own


@lru_cache(maxsize=256)
def host_name(host: str) -> str:
    """The name of a `Host` header: lower case, without port and brackets, and without a dot at its end."""
    name, bracket, port = host.strip().lower().partition("]")
    if bracket:
        return name.removeprefix("[") if not port or port.startswith(":") else host
    return name.partition(":")[0].removesuffix(".") if name.count(":") < 2 else name


def is_bare(name: str) -> bool:
    """True for a single word such as `testserver`."""
    return name.isascii() and name.isalpha()


@lru_cache(maxsize=256)
def is_loopback_name(name: str) -> bool:
    """True for names that mean this machine to every browser: localhost, 127.0.0.0/8 and ::1."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
