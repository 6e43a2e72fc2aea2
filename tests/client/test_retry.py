"""Retries of the client: which errors are retried, after which wait, and for how long."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import ConnectionFailedError, LossClient, RequestTimeoutError, RetryPolicy
from service.client.retry import Retries, retry_after_s
from service.errors import (
    DeviceOutOfMemoryError,
    DrainingError,
    InvalidLogitError,
    LossServiceError,
    QueueFullError,
    UnknownConfigError,
)

CONNECTION_LOST = ConnectionFailedError("reset", url="http://service/loss", sent=True)
CONNECTION_REFUSED = ConnectionFailedError("refused", url="http://service/loss", sent=False)


def waits_of(retries: Retries, error: Any, limit: int = 100) -> list[float]:
    waits: list[float] = []
    while len(waits) < limit and (wait := retries.wait_s(error)) is not None:
        waits.append(wait)
    return waits


@given(
    attempts=st.integers(1, 30),
    first_s=st.floats(0.001, 5),
    largest_s=st.floats(0.001, 30),
    total_s=st.floats(0, 100),
    retry_after=st.none() | st.integers(0, 20),
)
def test_waits_grow_and_stay_within_every_bound(
    attempts: int, first_s: float, largest_s: float, total_s: float, retry_after: int | None
) -> None:
    policy = RetryPolicy(attempts=attempts, first_s=first_s, largest_s=largest_s, total_s=total_s)
    error = QueueFullError("full", headers={} if retry_after is None else {"Retry-After": str(retry_after)})
    waits = waits_of(Retries(policy, repeatable=True), error)
    assert len(waits) < attempts
    assert sum(waits) <= total_s * (1 + 1e-9)
    for number, wait in enumerate(waits):
        longest = min(largest_s, first_s * 2**number)
        assert max(longest / 2, retry_after or 0) <= wait <= max(longest, (retry_after or 0) + longest / 4)


@pytest.mark.parametrize(
    "error", [QueueFullError("x"), DrainingError("x"), DeviceOutOfMemoryError("x"), CONNECTION_REFUSED, CONNECTION_LOST]
)
def test_temporary_errors_are_retried(error: Any) -> None:
    assert Retries(RetryPolicy(), repeatable=True).wait_s(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        InvalidLogitError("x"),
        UnknownConfigError("x"),
        LossServiceError("x"),
        RequestTimeoutError("slow", url="http://service/loss"),
    ],
)
def test_permanent_errors_are_not_retried(error: Any) -> None:
    assert Retries(RetryPolicy(), repeatable=True).wait_s(error) is None


def test_an_unrepeatable_request_is_retried_only_if_it_was_not_processed() -> None:
    assert Retries(RetryPolicy(), repeatable=False).wait_s(CONNECTION_LOST) is None
    assert Retries(RetryPolicy(), repeatable=False).wait_s(CONNECTION_REFUSED) is not None
    assert Retries(RetryPolicy(), repeatable=False).wait_s(DrainingError("x")) is not None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("7") == 7
    assert retry_after_s(formatdate(1_000_030, usegmt=True), now=lambda: 1_000_000.0) == 30
    assert retry_after_s(formatdate(1_000_000, usegmt=True), now=lambda: 1_000_030.0) == 0
    assert [retry_after_s(text) for text in (None, "", "soon", "-3")] == [0] * 4
    assert retry_after_s("9" * 400) == float("inf")


def test_a_retry_after_beyond_the_total_raises_the_error() -> None:
    error = QueueFullError("full", headers={"Retry-After": "61"})
    assert Retries(RetryPolicy(total_s=60), repeatable=True).wait_s(error) is None


def test_a_delete_whose_reply_is_lost_is_not_repeated() -> None:
    methods = []

    def reply(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        raise httpx.ReadError("reset", request=request)

    waits: list[float] = []
    with LossClient("http://service", transport=httpx.MockTransport(reply), sleep=waits.append) as client:
        with pytest.raises(ConnectionFailedError, match="http://service/configs/fl_1"):
            client.delete_config("fl_1")
        assert (methods, waits) == (["DELETE"], [])
        with pytest.raises(ConnectionFailedError):
            client.get_config("fl_1")
    assert methods == ["DELETE", *["GET"] * RetryPolicy().attempts]
    assert len(waits) == RetryPolicy().attempts - 1
