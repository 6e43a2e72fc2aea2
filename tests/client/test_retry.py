"""When the client asks again: what may be repeated, how long it waits, and when it gives up."""

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

LOST = ConnectionFailedError("reset", url="http://service/loss", sent=True)
REFUSED = ConnectionFailedError("refused", url="http://service/loss", sent=False)


def waits(retries: Retries, error: Any, most: int = 100) -> list[float]:
    found: list[float] = []
    while len(found) < most and (wait := retries.wait_s(error)) is not None:
        found.append(wait)
    return found


@given(
    attempts=st.integers(1, 30),
    first_s=st.floats(0.001, 5),
    largest_s=st.floats(0.001, 30),
    total_s=st.floats(0, 100),
    after=st.none() | st.integers(0, 20),
)
def test_waits_grow_and_stay_within_every_bound(
    attempts: int, first_s: float, largest_s: float, total_s: float, after: int | None
) -> None:
    policy = RetryPolicy(attempts=attempts, first_s=first_s, largest_s=largest_s, total_s=total_s)
    error = QueueFullError("full", headers={} if after is None else {"Retry-After": str(after)})
    found = waits(Retries(policy, repeatable=True), error)
    assert len(found) < attempts
    assert sum(found) <= total_s * (1 + 1e-9)
    for number, wait in enumerate(found):
        longest = min(largest_s, first_s * 2**number)
        assert max(longest / 2, after or 0) <= wait <= max(longest, (after or 0) + longest / 4)


@pytest.mark.parametrize("error", [QueueFullError("x"), DrainingError("x"), DeviceOutOfMemoryError("x"), REFUSED, LOST])
def test_what_may_pass_is_tried_again(error: Any) -> None:
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
def test_what_will_not_pass_is_not(error: Any) -> None:
    assert Retries(RetryPolicy(), repeatable=True).wait_s(error) is None


def test_what_must_not_come_twice_is_sent_again_only_where_it_did_not_arrive() -> None:
    assert Retries(RetryPolicy(), repeatable=False).wait_s(LOST) is None
    assert Retries(RetryPolicy(), repeatable=False).wait_s(REFUSED) is not None
    assert Retries(RetryPolicy(), repeatable=False).wait_s(DrainingError("x")) is not None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("7") == 7
    assert retry_after_s(formatdate(1_000_030, usegmt=True), now=lambda: 1_000_000.0) == 30
    assert retry_after_s(formatdate(1_000_000, usegmt=True), now=lambda: 1_000_030.0) == 0
    assert [retry_after_s(text) for text in (None, "", "soon", "-3")] == [0] * 4
    assert retry_after_s("9" * 400) == float("inf")


def test_a_retry_after_beyond_the_total_is_not_waited_for() -> None:
    error = QueueFullError("full", headers={"Retry-After": "61"})
    assert Retries(RetryPolicy(total_s=60), repeatable=True).wait_s(error) is None


def test_a_delete_whose_reply_is_lost_is_not_repeated() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ReadError("reset", request=request)

    slept: list[float] = []
    with LossClient("http://service", transport=httpx.MockTransport(answer), sleep=slept.append) as client:
        with pytest.raises(ConnectionFailedError, match="http://service/configs/fl_1"):
            client.delete_config("fl_1")
        assert (asked, slept) == (["DELETE"], [])
        with pytest.raises(ConnectionFailedError):
            client.get_config("fl_1")
    assert asked == ["DELETE", *["GET"] * RetryPolicy().attempts]
    assert len(slept) == RetryPolicy().attempts - 1
