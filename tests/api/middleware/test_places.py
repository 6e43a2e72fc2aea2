"""The place of a request: its client, and the bytes of its reply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.api.admission import Admission
from service.api.current import CURRENT, current_request
from service.api.middleware.places import PIECE_BYTES, RequestPlaces


def answered(body: bytes, held: list[int]) -> list[bytes]:
    """The pieces of a reply; `held` gets the bytes held at each."""
    admission, pieces = Admission(1, 100, 1), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert admission.num_bytes == 0
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            held.append(admission.num_bytes)
            pieces.append(bytes(message["body"]))
            assert message.get("more_body", False) == (sum(map(len, pieces)) < len(body))

    asyncio.run(RequestPlaces(app, admission, by_key=False)(scope(), receive, send))
    assert (admission.requests, admission.num_bytes, admission._shares) == (0, 0, {})
    return pieces


async def receive() -> Any:
    raise AssertionError("nothing is received")


def scope(client: Any = ("1.2.3.4", 5), *headers: tuple[bytes, bytes]) -> Any:
    return {"type": "http", "client": client, "headers": list(headers)}


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES])
def test_a_small_reply_is_sent_at_once(size: int) -> None:
    held: list[int] = []
    assert answered(b"x" * size, held) == [b"x" * size]
    assert held == [0]


@pytest.mark.parametrize("size", [PIECE_BYTES + 1, 2 * PIECE_BYTES - 1, 2 * PIECE_BYTES, 5 * PIECE_BYTES + 7])
def test_a_large_reply_is_sent_in_pieces_and_counts_until_it_is_sent(size: int) -> None:
    held: list[int] = []
    body = bytes(range(251)) * (size // 251 + 1)
    pieces = answered(body[:size], held)
    assert b"".join(pieces) == body[:size]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    assert set(held) == {size}


def test_an_error_while_sending_leaves_the_place() -> None:
    admission = Admission(1, 100, 1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await current_request().place.enter(50)
        await send({"type": "http.response.body", "body": b"x" * 2 * PIECE_BYTES})

    async def send(message: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(RequestPlaces(app, admission, by_key=False)(scope(), receive, send))
    assert (admission.requests, admission.num_bytes) == (0, 0)
    assert CURRENT.get() is None


KEY, BASIC = (b"authorization", b"Bearer  secret"), (b"authorization", b"Basic dXNlcjpzZWNyZXQ=")


@pytest.mark.parametrize(
    ("by_key", "sent", "client"),
    [
        (False, scope(), "1.2.3.4"),
        (False, scope(("1.2.3.4", 6), KEY), "1.2.3.4"),
        (True, scope(("1.2.3.4", 6), KEY), "key secret"),
        (True, scope(("1.2.3.4", 6), BASIC), "key secret"),
        (True, scope(), "1.2.3.4"),
        (False, scope(None), ""),
    ],
)
def test_a_client_is_known_by_its_key_or_address(by_key: bool, sent: Any, client: str) -> None:
    clients: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clients.append(current_request().place.client)

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent")

    asyncio.run(RequestPlaces(app, Admission(1, 100, 1), by_key=by_key)(sent, receive, send))
    assert clients == [client]
