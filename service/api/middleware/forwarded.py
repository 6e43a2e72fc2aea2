"""`X-Forwarded-*` headers of trusted proxies, and the path prefix of the service."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

# Without a group for each segment: `re` takes over 1 KB for each repetition of a group.
PREFIX = re.compile(r"/[A-Za-z0-9._~/-]+")
FORWARDED = b"x-forwarded-"


class ForwardedHeaders:
    """Believes the `X-Forwarded-*` headers of trusted proxies, and removes those of other clients.

    `X-Forwarded-For` and `-Proto` become the client and the scheme of the request, `X-Forwarded-Prefix` its
    `root_path`. `X-Forwarded-Host` stays a header.

    Args:
        app: The wrapped ASGI app.
        trusted: Addresses and networks of proxies, or `*`.
        root_path: Path prefix of requests without `X-Forwarded-Prefix`, without a slash at its end.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], root_path: str) -> None:
        self._app = app
        self._proxied = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        app, prefix = self._app, self._root_path or scope.get("root_path", "")
        if any(name.startswith(FORWARDED) for name, _ in headers):
            if (scope.get("client") or ("",))[0] in self._proxied.trusted_hosts:
                app, prefix = self._proxied, _prefix(headers) or prefix  # type: ignore[assignment]
            else:
                scope["headers"] = [header for header in headers if not header[0].startswith(FORWARDED)]
        if prefix:
            _set_prefix(scope, prefix)
        await app(scope, receive, send)


def _prefix(headers: list[tuple[bytes, bytes]]) -> str:
    values = [value for name, value in headers if name == b"x-forwarded-prefix"]
    prefix = values[-1].decode("latin-1").strip().rstrip("/") if values else ""
    return prefix if PREFIX.fullmatch(prefix) and "//" not in prefix else ""


def _set_prefix(scope: Scope, prefix: str) -> None:
    """Put the prefix before the path unless the proxy has left it there."""
    scope["root_path"] = prefix
    if scope["path"] != prefix and not scope["path"].startswith(f"{prefix}/"):
        scope["path"] = prefix + scope["path"]
        if scope.get("raw_path") is not None:
            scope["raw_path"] = prefix.encode() + scope["raw_path"]
