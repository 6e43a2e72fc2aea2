"""What every refusal of a body has in common."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from service.codecs.base import Reader
from service.errors import LossServiceError
from service.schema.request import LossRequest


def refused(codec: Reader, body: bytes) -> LossServiceError:
    """The error that a body gets: one of ours, for the client's fault, small, and fit to be sent."""
    with pytest.raises(LossServiceError) as caught:
        codec.decode(bytearray(body))
    error = caught.value
    assert error.status in (400, 422)
    assert len(sent(error)) < 10_000
    return error


def outcome(codec: Reader, body: bytes | bytearray, **options: Any) -> LossRequest | LossServiceError:
    """What a body is read as, or the error that it gets; any other exception is the test's failure."""
    try:
        return codec.decode(bytearray(body), **options)
    except LossServiceError as error:
        sent(error)
        return error


def sent(error: LossServiceError) -> bytes:
    """The error as it goes over the wire, which its texts must allow."""
    return orjson.dumps(error.problem())


class Stopwatch:
    """CPU seconds of this thread."""

    def __enter__(self) -> Stopwatch:
        self._start = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.thread_time() - self._start
