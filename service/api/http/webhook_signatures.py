"""Signatures of webhook requests (https://www.standardwebhooks.com)."""

from __future__ import annotations

from collections.abc import Mapping

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from service.errors import ForbiddenError

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def check_signed(headers: Mapping[str, str]) -> None:
    """Raise if a request has no signature: its body need not be read.

    Raises:
        ForbiddenError: A header is missing.
    """
    missing = [name for name in HEADERS if name not in headers]
    if missing:
        raise ForbiddenError(f"the request is not signed: it has no header {missing[0]}")


def check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise unless the sender knows the secret and signed the request within the last five minutes.

    Args:
        secret: Base64, with or without the prefix `whsec_`.
        headers: Headers of the request.
        body: Body of the request.

    Raises:
        ForbiddenError: The signature is another one, or the request is older or from the future.
    """
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as err:
        raise ForbiddenError(f"the signature of the request is not valid: {err}") from err
    except ValueError as err:
        # Of a header that is not of the form of a signature, or a body that is not UTF-8.
        raise ForbiddenError("the signature of the request is not valid") from err
