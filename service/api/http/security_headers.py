"""Security headers of replies: what browsers may do with them."""

from __future__ import annotations

from collections.abc import Iterable

RawHeaders = Iterable[tuple[bytes, bytes]]

# On every reply: no guessed media type, no frame, no use by pages of other origins, no address in `Referer`.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
# On replies whose route sets no others: they are data, which loads nothing and is in no cache.
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
NO_STORE = (b"cache-control", b"no-store")


def with_security_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers of a reply with the security headers that it lacks; names are in lower case."""
    complete = [*headers, *ALWAYS]
    names = {name for name, _ in complete}
    complete += [header for header in (POLICY, NO_STORE) if header[0] not in names]
    return complete
