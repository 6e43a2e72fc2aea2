"""Checks that every rejected body has in common."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from service.codecs.base import DecodeOptions, Reader
from service.errors import LossServiceError
from service.schema.request import LossRequest


def error_of(codec: Reader, body: bytes) -> LossServiceError:
    """The error for an invalid body; checks that it is a client error, small, and valid JSON."""
    with pytest.raises(LossServiceError) as caught:
        codec.decode(bytearray(body))
    error = caught.value
    assert error.status in (400, 413, 422)
    assert len(sent(error)) < 10_000
    return error


def outcome(codec: Reader, body: bytes | bytearray, **options: Any) -> LossRequest | LossServiceError:
    """The decoded request, or the LossServiceError; any other exception fails the test."""
    try:
        return codec.decode(bytearray(body), DecodeOptions(**options))
    except LossServiceError as error:
        sent(error)
        return error


def sent(error: LossServiceError) -> bytes:
    """The error as JSON, which requires valid Unicode in its texts."""
    return orjson.dumps(error.problem())


class Stopwatch:
    """Measures the CPU seconds of this thread."""

    def __enter__(self) -> Stopwatch:
        self._start = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.thread_time() - self._start
