"""When to ask again, and when to give up."""

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

    Only what may be repeated is: connections that fail, 429 and 503. The n-th wait is drawn from the upper half of
    `first_s` * 2^n, at most `largest_s`, and never shorter than the `Retry-After` of the reply.

    Args:
        attempts: Requests in all, >= 1; 1 never repeats.
        first_s: Seconds, the first wait at most.
        largest_s: Seconds, any wait at most (a `Retry-After` may be longer).
        total_s: Seconds of waiting in all; where the next wait would pass it, the error is raised at once.
    """

    attempts: int = 8
    first_s: float = 0.25
    largest_s: float = 8.0
    total_s: float = 60.0


ONCE = RetryPolicy(attempts=1)


class Retries:
    """The waits of one request.

    Args:
        policy: Their bounds.
        repeatable: Whether the service may get the request twice; where not, only one that it has not taken is sent
            again.
    """

    def __init__(self, policy: RetryPolicy, *, repeatable: bool) -> None:
        self._policy = policy
        self._repeatable = repeatable
        self._failures = 0
        self._waited_s = 0.0

    def wait_s(self, error: LossServiceError | ClientError) -> float | None:
        """Seconds to wait before the next attempt, or None to give up."""
        self._failures += 1
        if self._failures >= self._policy.attempts or not self._may_repeat(error):
            return None
        longest = min(self._policy.largest_s, self._policy.first_s * 2.0 ** (self._failures - 1))
        # Many clients that failed together shall not come back together.
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
    """The seconds that `Retry-After` asks for (RFC 9110, 10.2.3: a number or a date); 0 where it says nothing."""
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
