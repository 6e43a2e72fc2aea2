"""`/session`: signing in to the page with a key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.body import content_length, decoded_json, read_body
from service.api.http.responses import json_response
from service.api.middleware.origins import require_same_origin
from service.api.middleware.sessions import LIFETIME_S, cookie_name
from service.api.principals import least_role
from service.api.state import service_of
from service.errors import DecodeError
from service.schema.people import ANYONE

# Unauthenticated endpoint: the body is a key and a few braces.
MAX_BODY_BYTES = 4096

router = APIRouter(prefix="/session", include_in_schema=False)


@router.get("")
async def get_session(request: Request) -> Response:
    """`needs_key`: true if the service has keys; `signed_in`: true if this browser has a session; name and role of its
    key, null without a session."""
    service = service_of(request)
    needs_key = bool(service.settings.api_keys)
    principal = service.sessions.signed_in(request.headers) if needs_key else ANYONE
    session = {
        "needs_key": needs_key,
        "signed_in": needs_key and principal is not None,
        "name": None if principal is None else principal.name,
        "role": None if principal is None else principal.role,
    }
    return json_response(session, headers={"Cache-Control": "no-store"})


@router.post("")
@least_role("reader")
async def post_session(request: Request) -> Response:
    """Sign in with a key: 204 and a cookie that scripts cannot read and other sites cannot send."""
    require_same_origin(request.headers)
    service = service_of(request)
    timeout_s = service.settings.body_timeout_s
    body = await read_body(request, content_length(request), max_bytes=MAX_BODY_BYTES, timeout_s=timeout_s)
    key_index = service.sessions.key_index(_key(body))
    if key_index is None:
        await service.wrong_keys.refuse(request.scope, "this is not a key of this service")
    return _with_cookie(request, service.sessions.token(key_index), LIFETIME_S)


@router.delete("")
@least_role("reader")
async def delete_session(request: Request) -> Response:
    """Sign out: the browser forgets the cookie."""
    require_same_origin(request.headers)
    return _with_cookie(request, "", 0)


def _key(body: memoryview) -> str:
    value = decoded_json(body)
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        raise DecodeError('the body has to be {"key": "..."}')
    return str(value["key"]).strip()


def _with_cookie(request: Request, value: str, lifetime_s: int) -> Response:
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    # Over plain HTTP, as on localhost, browsers do not send a Secure cookie back.
    secure = request.url.scheme == "https"
    name, path = cookie_name(request.headers), f"{request.scope['root_path']}/"
    response.set_cookie(name, value, max_age=lifetime_s, path=path, httponly=True, samesite="strict", secure=secure)
    return response
