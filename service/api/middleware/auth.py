"""Authentication: keys in `Authorization`, and sessions of the page."""

from __future__ import annotations

import base64
import binascii

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.methods import SAFE_METHODS
from service.api.http.paths import needs_key, route_path
from service.api.middleware.guesses import WrongKeys
from service.api.middleware.origins import require_same_origin
from service.api.middleware.sessions import Sessions
from service.api.principals import PRINCIPAL
from service.errors import UnauthorizedError
from service.schema.people import NOBODY, Principal

PAGE_PATHS, PAGE_FILES = frozenset({"/", "/session"}), "/web/"
DETAIL = "this service requires 'Authorization: Bearer <key>' with one of its keys, or Basic with the key as password"


class KeyAuth:
    """Requires a key, as a bearer token (RFC 6750) or as the password of Basic (RFC 7617), or a session of the page.

    `/healthz`, `/readyz`, the page's own files, `/session` and requests with signatures of their own need none.

    Args:
        app: The wrapped ASGI app.
        sessions: Keys of the service (at least one) and sessions of the page.
        wrong_keys: Delays replies to wrong keys.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, wrong_keys: WrongKeys) -> None:
        self.app = app
        self._sessions = sessions
        self._wrong_keys = wrong_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_open = _is_open(route_path(scope))
            scope[PRINCIPAL] = NOBODY if is_open else await self._principal(scope)
        await self.app(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        headers = Headers(scope=scope)
        authorization = headers.get("authorization")
        if authorization is None:
            return self._of_session(scope["method"], headers)
        # A wrong key is refused even if the browser has a session.
        index = self._sessions.key_index(key_of(authorization))
        if index is None:
            await self._wrong_keys.refuse(scope, DETAIL)
        return self._sessions.principals[index]

    def _of_session(self, method: str, headers: Headers) -> Principal:
        principal = self._sessions.signed_in(headers)
        if principal is None:
            raise UnauthorizedError(DETAIL, headers={"WWW-Authenticate": "Bearer"})
        # SameSite=Strict keeps the cookie from other sites, but not from pages on other ports of this host.
        if method not in SAFE_METHODS:
            require_same_origin(headers)
        return principal


def key_of(authorization: str) -> str:
    """The bearer token or the password of Basic in a header `Authorization`; empty if it has neither."""
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _is_open(path: str) -> bool:
    return path in PAGE_PATHS or path.startswith(PAGE_FILES) or not needs_key(path)
