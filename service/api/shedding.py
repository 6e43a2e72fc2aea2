"""What a full service answers: at once, before anything is made of a request.

Whoever is refused asks again. Taken through the whole app, a refusal would cost a fifth of an answer, and a crowd would
take the time of those who have a place.
"""

from __future__ import annotations

import time

import structlog

from service.api.middleware import request_id_of
from service.api.state import Service
from service.errors import LossServiceError

PATH = b"/loss"
LOGGED_EVERY_S = 1.0

log = structlog.get_logger("service.access")


class Shedding:
    """Refuses `POST /loss` while the queue is full; see `BoundedHttpProtocol.refusal`.

    Every refusal is counted; of those within a second one line is logged.

    Args:
        service: Whose queue it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._error = service.engine.full()
        self._not_logged = 0
        self._logged_at = -LOGGED_EVERY_S

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> tuple[LossServiceError, str] | None:
        """The error and the request's id; None for what is not refused here."""
        if not self._service.engine.is_full or method != b"POST" or target.partition(b"?")[0] != PATH:
            return None
        given = dict(headers)
        if self._service.settings.api_keys and not self._service.sessions.has_key(
            given.get(b"authorization", b"").decode("latin-1")
        ):
            return None
        self._service.metrics.count_request("POST", "/loss", self._error.status, 0)
        request_id = request_id_of(given.get(b"x-request-id", b"").decode("latin-1"))
        self._log(request_id)
        return self._error, request_id

    def _log(self, request_id: str) -> None:
        self._not_logged += 1
        now = time.monotonic()
        if now - self._logged_at < LOGGED_EVERY_S:
            return
        fields = {"request_id": request_id, "method": "POST", "path": "/loss", "code": self._error.code}
        log.warning("refused", **fields, status=self._error.status, requests=self._not_logged)
        self._not_logged, self._logged_at = 0, now
