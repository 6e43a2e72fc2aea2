"""What a full service answers: at once, before anything is made of a request.

Whoever is refused asks again. Taken through the whole app, a refusal would cost a fifth of an answer, and a crowd would
take the time of those who have a place.
"""

from __future__ import annotations

import structlog

from service.api.middleware import request_id_of
from service.api.state import Service
from service.errors import LossServiceError

PATH = b"/loss"

log = structlog.get_logger("service.access")


class Shedding:
    """Refuses `POST /loss` while the queue is full; see `BoundedHttpProtocol.refusal`.

    Args:
        service: Whose queue it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
    ) -> tuple[LossServiceError, str] | None:
        """The error and the request's id, logged and counted; None for what is not refused here."""
        engine = self._service.engine
        if not engine.is_full or method != b"POST" or target.partition(b"?")[0] != PATH:
            return None
        given = dict(headers)
        if self._service.settings.api_keys and not self._service.sessions.has_key(
            given.get(b"authorization", b"").decode("latin-1")
        ):
            return None
        error, request_id = engine.full(), request_id_of(given.get(b"x-request-id", b"").decode("latin-1"))
        self._service.metrics.count_request("POST", "/loss", error.status, 0)
        fields = {"request_id": request_id, "method": "POST", "path": "/loss", "code": error.code}
        log.info("request", **fields, status=error.status, duration_ms=0)
        return error, request_id
