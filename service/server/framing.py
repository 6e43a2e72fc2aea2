"""Refuses requests whose version or framing a proxy in front of the service may read differently (RFC 9112)."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import DecodeError, HttpVersionError, LossServiceError, TransferEncodingError

VERSIONS = ("1.0", "1.1")


def framing_error(version: str, headers: Sequence[tuple[bytes, bytes]]) -> LossServiceError | None:
    """The error of a request that the parser accepts but that is not framed by the rules, or None.

    Args:
        version: HTTP version of the request line, `0.9` to `2.0`.
        headers: Names in lower case, and values without surrounding whitespace.
    """
    hosts, coding = 0, None
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b", " + value
    if version not in VERSIONS:
        return HttpVersionError(f"HTTP/{version} is not spoken here: send HTTP/1.1 or HTTP/1.0")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return DecodeError(f"a request has one header Host, this one has {hosts}")
    if coding is None:
        return None
    if coding.lower() != b"chunked":
        return TransferEncodingError(f"Transfer-Encoding {coding.decode('latin-1')[:100]!r} is not known; chunked is")
    if version == "1.0":
        return DecodeError("a request of HTTP/1.0 has no Transfer-Encoding")
    return None
