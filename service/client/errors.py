"""Errors of the client: errors of the service by their `code`, and requests without a usable reply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import orjson

from service.errors import ErrorItem, LossServiceError

ERROR_HEADERS = ("Retry-After", "X-Request-ID")
BATCH = re.compile(r"\bbatch (\d+)")


class ClientError(Exception):
    """The service gave no usable reply.

    Args:
        detail: Description of the failure.
        url: URL of the request.
    """

    def __init__(self, detail: str, *, url: str) -> None:
        super().__init__(f"{url}: {detail}")
        self.detail = detail
        self.url = url


class ConnectionFailedError(ClientError, ConnectionError):
    """The connection could not be opened, or failed before the reply was complete.

    Args:
        detail: Description of the failure.
        url: URL of the request.
        sent: True if the service may have received the request.
    """

    def __init__(self, detail: str, *, url: str, sent: bool = False) -> None:
        super().__init__(detail, url=url)
        self.sent = sent


class RequestTimeoutError(ClientError, TimeoutError):
    """The service took longer than the client's timeout."""


class UnexpectedReplyError(ClientError):
    """The reply does not have the format of this service. Another server may be listening at this address."""


def network_error(err: httpx.TransportError, url: str) -> ClientError:
    """Convert an httpx error to a client error."""
    if isinstance(err, httpx.TimeoutException) and not isinstance(err, httpx.ConnectTimeout):
        return RequestTimeoutError(f"no reply within the timeout ({type(err).__name__})", url=url)
    sent = not isinstance(err, httpx.ConnectError | httpx.ConnectTimeout)
    return ConnectionFailedError(str(err) or type(err).__name__, url=url, sent=sent)


def error_of(response: httpx.Response) -> LossServiceError:
    """Build the error that a reply describes, in the class that the service raised. The body must have been read.

    A code that this version does not know becomes a LossServiceError with that code. A reply that is not a problem
    document, e.g. one of a proxy, becomes a LossServiceError with the code `http_<status>`.
    """
    problem = _problem(response)
    detail = f"{response.request.url} answered {response.status_code}: {response.text[:200]!r}"
    code = f"http_{response.status_code}"
    errors: list[ErrorItem] = []
    if problem is not None:
        code, detail = problem["code"], str(problem.get("detail", detail))
        errors = [
            ErrorItem(loc=item["loc"], msg=item["msg"])
            for item in problem.get("errors", [])
            if isinstance(item, dict) and {"loc", "msg"} <= item.keys()
        ]
    headers = {name: response.headers[name] for name in ERROR_HEADERS if name in response.headers}
    error = _error_classes().get(code, LossServiceError)(detail, errors=errors, headers=headers)
    # A later version of the service may use another status for a known code.
    vars(error).update(status=response.status_code, code=code)
    if problem is not None and "current" in problem:
        vars(error)["current"] = problem["current"]
    return error


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return problem if isinstance(problem, dict) and isinstance(problem.get("code"), str) else None


def _error_classes() -> dict[str, type[LossServiceError]]:
    return {kind.code: kind for kind in _with_subclasses(LossServiceError)}


def _with_subclasses(kind: type[LossServiceError]) -> Iterator[type[LossServiceError]]:
    for subclass in kind.__subclasses__():
        yield from _with_subclasses(subclass)
    yield kind


def shift_batches(error: LossServiceError, first: int) -> None:
    """Renumber the batches in an error of a request whose first batch is batch `first` of a stream."""
    for item in error.errors:
        match item["loc"]:
            case ["batches", int(number), *_]:
                item["loc"][1] = number + first
    error.detail = BATCH.sub(lambda match: f"batch {int(match[1]) + first}", error.detail)
    error.args = (error.detail,)
