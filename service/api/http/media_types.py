"""The media type of a request body."""

from __future__ import annotations

from starlette.datastructures import Headers

from service.errors import UnsupportedMediaTypeError


def media_type(headers: Headers) -> str:
    """The media type of a body in lower case, without parameters; empty if it is missing."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def require_media_type(headers: Headers, *allowed: str, may_be_absent: bool = False) -> None:
    """Refuse a body of another media type.

    A browser lets any web page send forms, plain text, and bodies without a type; for other media types it asks first.

    Args:
        headers: Headers of the request.
        allowed: Media types in lower case.
        may_be_absent: Accept a request without `Content-Type`, unless a browser sends it.

    Raises:
        UnsupportedMediaTypeError: The media type is not allowed, or missing.
    """
    kind = media_type(headers)
    if kind not in allowed and (kind or is_from_browser(headers) or not may_be_absent):
        accept = ", ".join(allowed)
        raise UnsupportedMediaTypeError(f"the body here is {accept}, got {kind[:100]!r}", headers={"Accept": accept})


def is_from_browser(headers: Headers) -> bool:
    """True if a request that changes or computes something names its origin or site, as browsers do."""
    return "origin" in headers or "sec-fetch-site" in headers
