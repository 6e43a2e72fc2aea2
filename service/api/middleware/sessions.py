"""Signing in to the page with a key: the token in its cookie, and which requests may rely on it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from service.errors import CrossSiteError

COOKIE = "focal_loss_session"
LIFETIME_S = 12 * 3600
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Signs for one purpose only, so that a token is worth nothing elsewhere and tells nothing of the key.
PURPOSE = b"focal-loss-service session v1"


class Sessions:
    """Tokens that say "whoever holds this has shown a key", without a store: every process with the key agrees.

    A token is `expiry.nonce.signature`; the signature is an HMAC by a secret derived from the key, so a key that is
    taken out of the settings takes its sessions along. Signing out forgets the cookie; a copy of it made before is
    good until it expires.

    Args:
        keys: As in the settings; none: nobody needs a session.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        texts = [key.get_secret_value().encode() for key in keys]
        # Digests have one length, so that comparing them tells nothing of a key's.
        self._digests = [hashlib.sha256(text).digest() for text in texts]
        self._secrets = [hmac.digest(text, PURPOSE, "sha256") for text in texts]

    def place_of(self, key: str) -> int | None:
        """Which of the keys this is; every one is compared, whichever fits."""
        digest = hashlib.sha256(key.encode()).digest()
        fits = [secrets.compare_digest(digest, each) for each in self._digests]
        return fits.index(True) if any(fits) else None

    def has_key(self, authorization: str) -> bool:
        """Whether a header `Authorization` is `Bearer` with one of the keys (RFC 6750)."""
        scheme, _, given = authorization.partition(" ")
        known = self.place_of(given.strip()) is not None
        return known and scheme.lower() == "bearer"

    def token(self, place: int, now: float | None = None) -> str:
        """A new token for the key at this place, good for `LIFETIME_S` seconds."""
        expires = int(time.time() if now is None else now) + LIFETIME_S
        claim = f"{expires}.{secrets.token_urlsafe(12)}"
        return f"{claim}.{_signature(self._secrets[place], claim)}"

    def holds(self, token: str, now: float | None = None) -> bool:
        """Whether a token is one of ours and has not expired."""
        claim, _, signature = token.rpartition(".")
        given = signature.encode()
        fits = [secrets.compare_digest(_signature(each, claim).encode(), given) for each in self._secrets]
        # Only what we signed is read.
        return any(fits) and int(claim.partition(".")[0]) > (time.time() if now is None else now)

    def signed_in(self, headers: Headers) -> bool:
        """Whether the request carries a session."""
        cookies = cookie_parser(headers.get("cookie", ""))
        return COOKIE in cookies and self.holds(cookies[COOKIE])


def _signature(secret: bytes, claim: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(secret, claim.encode(), "sha256")).decode().rstrip("=")


def refuse_cross_site(method: str, headers: Headers) -> None:
    """Let a browser change something with its cookie only from our own page.

    SameSite=Strict keeps the cookie from other sites, but a page on another port of this host is of the same site.
    Browsers say where a request comes from in `Sec-Fetch-Site`, over plain HTTP in `Origin` alone.

    Raises:
        CrossSiteError: The request comes from elsewhere, or does not say from where.
    """
    if method in SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None:
        ours = origin is not None and urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    else:
        ours = site == "same-origin"
    if not ours:
        raise CrossSiteError(
            "with a session, only the service's own page may change something; other programs send "
            "'Authorization: Bearer <key>'"
        )
