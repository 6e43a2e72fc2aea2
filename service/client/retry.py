"""Retries: which errors are retried, after which wait, and for how long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from service.client.errors import ClientError, ConnectionFailedError
from service.errors import LossServiceError

RETRIED_STATUS = (429, 503)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter, bounded in number and in time.

    Failed connections and the statuses 429 and 503 are retried. The wait before retry n is random in the upper half of
    [0, min(`first_s` * 2^n, `largest_s`)], n from 0, and not shorter than the `Retry-After` of the reply.

    Args:
        attempts: Maximum number of requests, >= 1. With 1 there are no retries.
        first_s: Maximum of the first wait, in seconds.
        largest_s: Maximum of every wait, in seconds. A `Retry-After` may be longer.
        total_s: Maximum sum of the waits, in seconds. If the next wait would exceed it, the error is raised at once.
    """

    attempts: int = 8
    first_s: float = 0.25
    largest_s: float = 8.0
    total_s: float = 60.0


NO_RETRIES = RetryPolicy(attempts=1)


class Retries:
    """The retries of one request.

    Args:
        policy: Bounds of the waits.
        repeatable: True if a second identical request does no harm. Otherwise the request is only retried if the
            service has not processed it.
    """

    def __init__(self, policy: RetryPolicy, *, repeatable: bool) -> None:
        self._policy = policy
        self._repeatable = repeatable
        self._failures = 0
        self._waited_s = 0.0

    def wait_s(self, error: LossServiceError | ClientError) -> float | None:
        """Return the seconds to wait before the next attempt, or None to raise the error."""
        self._failures += 1
        if self._failures >= self._policy.attempts or not self._may_repeat(error):
            return None
        longest = min(self._policy.largest_s, self._policy.first_s * 2.0 ** (self._failures - 1))
        # Jitter: clients that failed at the same time should not retry at the same time.
        wait = longest * random.uniform(0.5, 1)
        if isinstance(error, LossServiceError):
            wait = max(wait, retry_after_s(error.headers.get("Retry-After")) + wait / 4)
        if self._waited_s + wait > self._policy.total_s:
            return None
        self._waited_s += wait
        return wait

    def _may_repeat(self, error: LossServiceError | ClientError) -> bool:
        if isinstance(error, LossServiceError):
            return error.status in RETRIED_STATUS
        return isinstance(error, ConnectionFailedError) and (self._repeatable or not error.sent)


def retry_after_s(header: str | None, now: Callable[[], float] = time.time) -> float:
    """Return the seconds of a `Retry-After` (RFC 9110, 10.2.3: a number or a date); 0 if it is absent or invalid."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(int(header)))
    except OverflowError:
        return float("inf")
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now())
    except ValueError:
        return 0.0
