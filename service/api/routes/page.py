"""`/`: the page for people who do not write code, its files, and signing in to it.

The page is served as it lies in `service/web`; it has no build step and asks the public API only.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.body import content_length, decoded_json, read_body
from service.api.http.encoding import GZIP_WINDOW, reply_coding
from service.api.http.responses import json_response
from service.api.middleware.sessions import COOKIE, LIFETIME_S, refuse_cross_site
from service.api.state import service_of
from service.errors import DecodeError, NotFoundError, UnauthorizedError

# Who signs in is nobody yet: more than a key is not read.
MAX_KEY_BYTES = 4096
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SUBFOLDERS = ("lib", "components", "views")
# What draws the charts comes out of a package: its name here, the distribution, the place in it.
PACKAGED = {"plotly.min.js": ("plotly", "plotly/package_data/plotly.min.js")}
# Pictures of examples come from wherever the data set's attributes point.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https: http:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address of a view names runs and examples.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def _read() -> dict[str, _File]:
    """Every file of the page by its name. Only these names are served, so no path leads out of the folder."""
    found = {}
    for name, content in _contents():
        media_type = MEDIA_TYPES.get("." + name.rpartition(".")[2])
        if media_type is not None:
            found[name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


def _contents() -> Iterator[tuple[str, bytes]]:
    folder = files("service").joinpath("web")
    for subfolder in ("", *SUBFOLDERS):
        for entry in folder.joinpath(subfolder).iterdir():
            if entry.is_file():
                yield f"{subfolder}/{entry.name}".lstrip("/"), entry.read_bytes()
    for name, (package, place) in PACKAGED.items():
        try:
            yield name, Path(str(distribution(package).locate_file(place))).read_bytes()
        except (PackageNotFoundError, FileNotFoundError):
            # A loss is computed without charts too; the page says that they are missing.
            continue


_FILES = _read()


@router.get("/")
async def page(request: Request) -> Response:
    """The page itself; it needs no key, since it shows nothing before the API is asked."""
    return _served(request, "index.html")


@router.get("/web/{name:path}")
async def page_file(request: Request, name: str) -> Response:
    """A file that the page loads."""
    return _served(request, name)


def _served(request: Request, name: str) -> Response:
    file = _FILES.get(name)
    if file is None:
        raise NotFoundError(f"nothing is served at {request.url.path}")
    # Asked about at every load: after an update nobody runs old scripts against a new service.
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", **SECURITY}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.tag in known:
        return Response(status_code=304, headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if reply_coding(request.headers.get("accept-encoding"), ("gzip",)) == "gzip":
        headers["Content-Encoding"] = "gzip"
        return Response(_gzipped(name), headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)


@lru_cache
def _gzipped(name: str) -> bytes:
    """A file of the page, compressed once."""
    return zlib.compress(_FILES[name].content, wbits=GZIP_WINDOW)


@router.get("/session")
async def get_session(request: Request) -> Response:
    """Whether the service asks for a key, and whether this browser has given one."""
    service = service_of(request)
    needs_key = bool(service.settings.api_keys)
    signed_in = needs_key and service.sessions.signed_in(request.headers)
    return json_response({"needs_key": needs_key, "signed_in": signed_in}, headers={"Cache-Control": "no-store"})


@router.post("/session")
async def post_session(request: Request) -> Response:
    """Sign in with a key: 204 and a cookie that scripts cannot read and other sites cannot send."""
    refuse_cross_site("POST", request.headers)
    service = service_of(request)
    timeout_s = service.settings.body_timeout_s
    body = await read_body(request, content_length(request), max_bytes=MAX_KEY_BYTES, timeout_s=timeout_s)
    place = service.sessions.place_of(_key(body))
    if place is None:
        raise UnauthorizedError("this is not a key of this service", headers={"WWW-Authenticate": "Bearer"})
    return _with_cookie(request, service.sessions.token(place), LIFETIME_S)


@router.delete("/session")
async def delete_session(request: Request) -> Response:
    """Sign out: the browser forgets the cookie."""
    refuse_cross_site("DELETE", request.headers)
    return _with_cookie(request, "", 0)


def _key(body: memoryview) -> str:
    value = decoded_json(body)
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise DecodeError('the body has to be {"key": "..."}')
    return str(value["key"]).strip()


def _with_cookie(request: Request, value: str, lifetime_s: int) -> Response:
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    # Over plain HTTP, as on one's own machine, a Secure cookie would never come back.
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, value, max_age=lifetime_s, path="/", httponly=True, samesite="strict", secure=secure)
    return response
