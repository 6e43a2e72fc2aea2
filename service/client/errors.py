"""What the client raises: the service's own errors by their `code`, and what happens before a reply is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson

from service.errors import ErrorItem, LossServiceError

KEPT_HEADERS = ("Retry-After", "X-Request-ID")
BATCH = re.compile(r"\bbatch (\d+)")


class ClientError(Exception):
    """The service gave no usable answer; `url` is what was asked.

    Args:
        detail: What happened.
        url: Of the request.
    """

    def __init__(self, detail: str, *, url: str) -> None:
        super().__init__(f"{url}: {detail}")
        self.detail = detail
        self.url = url


class ConnectionFailedError(ClientError, ConnectionError):
    """No connection, or one that broke before the reply was complete.

    Args:
        detail: What happened.
        url: Of the request.
        sent: Whether the service may have got the request.
    """

    def __init__(self, detail: str, *, url: str, sent: bool = False) -> None:
        super().__init__(detail, url=url)
        self.sent = sent


class RequestTimeoutError(ClientError, TimeoutError):
    """The service took longer than the client's timeout."""


class UnexpectedReplyError(ClientError):
    """A reply that is not what this service sends; something else may listen at this address."""


def network_error(err: httpx.TransportError, url: str) -> ClientError:
    """What httpx raised, as ours."""
    if isinstance(err, httpx.TimeoutException) and not isinstance(err, httpx.ConnectTimeout):
        return RequestTimeoutError(f"no answer in time ({type(err).__name__})", url=url)
    sent = not isinstance(err, httpx.ConnectError | httpx.ConnectTimeout)
    return ConnectionFailedError(str(err) or type(err).__name__, url=url, sent=sent)


def error_of(response: httpx.Response) -> LossServiceError:
    """The error that a reply says, in the class that the service raised; its body has been read.

    A code that this version does not know gives a LossServiceError with that code; so does a reply that is no problem
    document, e.g. of a proxy, with the code `http_<status>`.
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
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    error = _kinds().get(code, LossServiceError)(detail, errors=errors, headers=headers)
    # A later version may give a known code another status; the reply is right.
    vars(error).update(status=response.status_code, code=code)
    return error


def _problem(response: httpx.Response) -> Mapping[str, Any] | None:
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return problem if isinstance(problem, dict) and isinstance(problem.get("code"), str) else None


def _kinds() -> dict[str, type[LossServiceError]]:
    return {kind.code: kind for kind in _tree(LossServiceError)}


def _tree(kind: type[LossServiceError]) -> Iterator[type[LossServiceError]]:
    for child in kind.__subclasses__():
        yield from _tree(child)
    yield kind


def shift_batches(error: LossServiceError, first: int) -> None:
    """Let an error count batches from the start of a stream, whose batch `first` was number 0 of the request."""
    for item in error.errors:
        match item["loc"]:
            case ["batches", int(number), *_]:
                item["loc"][1] = number + first
    error.detail = BATCH.sub(lambda found: f"batch {int(found[1]) + first}", error.detail)
    error.args = (error.detail,)
