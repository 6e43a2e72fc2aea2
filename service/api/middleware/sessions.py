"""Keys of the service, and sessions of the page: the signed token in its cookie."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from itsdangerous import TimestampSigner
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from service.api.middleware.origins import hosts_of
from service.schema.api_keys import ApiKey
from service.schema.people import Principal

COOKIE = "focal_loss_session"
LIFETIME_S = 12 * 3600
# Separates these signatures from any other use of the same keys.
SALT = "focal-loss-service session v2"


class Sessions:
    """Keys of the service, and session tokens for browsers that have sent one of them.

    A token is a random text with a timestamp and a signature by the key that the browser sent. Nothing is stored, so
    all processes accept it, and removing a key from the settings ends its sessions. Signing out deletes the cookie; a
    copy of the token stays valid until it expires.

    Args:
        keys: `named_keys` of the settings; without keys there are no sessions.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        texts = [key.secret for key in keys]
        self.principals = [key.principal for key in keys]
        # Digests have one length, so the time of a comparison tells nothing about a key.
        self._digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        self._signers = [
            TimestampSigner(text, salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256) for text in texts
        ]

    def key_index(self, key: str) -> int | None:
        """Position of this key in the settings, or None. Compares with every key, for a constant time."""
        digest = hashlib.sha256(key.encode()).digest()
        matches = [secrets.compare_digest(digest, known) for known in self._digests]
        return matches.index(True) if any(matches) else None

    def token(self, key_index: int) -> str:
        """A new token, signed by the key at this position, valid for `LIFETIME_S` seconds."""
        return self._signers[key_index].sign(secrets.token_urlsafe(12)).decode()

    def signer_index(self, token: str) -> int | None:
        """Position of the key that has signed a token; None if none has, or the token has expired."""
        valid = (index for index, signer in enumerate(self._signers) if signer.validate(token, max_age=LIFETIME_S))
        return next(valid, None)

    def signed_in(self, headers: Headers) -> Principal | None:
        """The person whose key signed the session of the request's cookie; None without a valid session."""
        token = cookie_parser(headers.get("cookie", "")).get(cookie_name(headers))
        index = None if token is None else self.signer_index(token)
        return None if index is None else self.principals[index]


def cookie_name(headers: Headers) -> str:
    """The name of the cookie, with the port of the address: browsers send cookies to all ports of a host."""
    *_, host = "", *hosts_of(headers)
    port = host.rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isdecimal() else COOKIE
