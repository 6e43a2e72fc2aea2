"""Authentication: bearer keys (RFC 6750), and sessions of the page."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.openapi import OPEN_PATHS
from service.api.http.paths import route_path
from service.api.middleware.origins import SAFE_METHODS, require_same_origin
from service.api.middleware.sessions import Sessions
from service.errors import UnauthorizedError

PAGE_PATHS, PAGE_FILES = frozenset({"/", "/session"}), "/web/"


class BearerAuth:
    """Requires a bearer key (RFC 6750), or a session of the page.

    `/healthz`, `/readyz`, the page's own files and `/session` are open to all.

    Args:
        app: The wrapped ASGI app.
        sessions: Keys of the service (at least one) and sessions of the page.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(route_path(scope)):
            self._check(scope["method"], Headers(scope=scope))
        await self.app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        # A wrong key is refused even if the browser has a session.
        if "authorization" not in headers and self._sessions.signed_in(headers):
            # SameSite=Strict keeps the cookie from other sites, but not from pages on other ports of this host.
            if method not in SAFE_METHODS:
                require_same_origin(headers)
            return
        if not self._sessions.has_key(headers.get("authorization", "")):
            raise UnauthorizedError(
                "this service requires 'Authorization: Bearer <key>' with one of its keys",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path in PAGE_PATHS or path.startswith(PAGE_FILES)
