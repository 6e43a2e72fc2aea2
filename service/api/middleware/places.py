"""The place of each request in admission, from its body to the end of its reply."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.admission import Admission
from service.api.current import CURRENT, CurrentRequest
from service.api.middleware.auth import key_of

# Larger replies are sent in pieces of this size, each when the client has taken most of the one before.
PIECE_BYTES = 256 * 1024


class RequestPlaces:
    """Gives each request its place, counts the bytes of a large reply until it is sent, and leaves the place.

    Args:
        app: The wrapped ASGI app.
        admission: Bounds the requests with a body, and their bytes.
        by_key: True if a client is known by the key that it sends, which other middleware has checked.
    """

    def __init__(self, app: ASGIApp, admission: Admission, *, by_key: bool) -> None:
        self.app = app
        self._admission = admission
        self._by_key = by_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        place = self._admission.place(client=self._client(scope))

        async def send_in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= PIECE_BYTES:
                await send(message)
                return
            place.hold_reply(len(body))
            rest = memoryview(body)
            while len(rest) > PIECE_BYTES:
                await send({"type": "http.response.body", "body": rest[:PIECE_BYTES], "more_body": True})
                rest = rest[PIECE_BYTES:]
            await send({**message, "body": rest})

        token = CURRENT.set(CurrentRequest(place, receive))
        try:
            await self.app(scope, receive, send_in_pieces)
        finally:
            CURRENT.reset(token)
            place.leave()

    def _client(self, scope: Scope) -> str:
        """The key of the client, or its address; empty if the server knows none."""
        if self._by_key:
            for name, value in scope["headers"]:
                if name == b"authorization":
                    return f"key {key_of(value.decode('latin-1'))}"
        client = scope.get("client")
        return client[0] if client else ""
