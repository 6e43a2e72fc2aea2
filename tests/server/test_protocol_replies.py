"""Broken requests while a reply is due: clients match each reply to their oldest unanswered request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.wire import (
    HEAD_TIMEOUT_S,
    MAX_HEAD_BYTES,
    TimedLoop,
    answer,
    body_of,
    check_refused,
    chunked,
    connected,
    get,
    replies,
    request,
    settled,
)

BROKEN = (
    b"garbage\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"x" * 2 * MAX_HEAD_BYTES,
    b"POST / HTTP/1.1\r\nContent-Length: x\r\n",
)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("before", [[request(b"one")], [request(b"one"), request(b"two")], [chunked(b"one")]])
def test_the_due_replies_are_sent_before_a_broken_request_closes_the_connection(
    broken: bytes, together: bool, before: list[bytes]
) -> None:
    may_answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(scope, receive)
        await may_answer.wait()
        await answer(send, body)

    async def check() -> None:
        wire, _ = connected(slow)
        for part in [b"".join(before) + broken] if together else [*before, broken]:
            wire.send(part)
            await settled()
        wire.send(get())
        assert not wire.written
        may_answer.set()
        await settled()
        assert replies(wire).statuses == [200] * len(before)
        assert wire.closed

    asyncio.run(check())


def test_late_headers_after_a_request_whose_reply_is_due() -> None:
    may_answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await may_answer.wait()
        await answer(send, b"done")

    async def check() -> None:
        loop = TimedLoop()
        wire, _ = connected(slow, loop=loop)
        wire.send(get() + b"GET")
        await settled()
        loop.pass_time(HEAD_TIMEOUT_S)
        assert not wire.written
        may_answer.set()
        await settled()
        assert replies(wire).bodies == [b"done"]
        assert replies(wire).headers[0][b"connection"] == b"close"
        assert wire.closed

    asyncio.run(check())


def test_a_broken_body_ends_the_request() -> None:
    events: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        while not events or events[-1] == "http.request":
            events.append((await receive())["type"])
        await answer(send, b"not sent")

    async def check() -> None:
        wire, _ = connected(listening)
        wire.send(chunked(b"hello")[: -len(b"0\r\n\r\n")])
        await settled()
        wire.send(b"no chunk\r\n" + get())
        await settled()
        assert events == ["http.request", "http.disconnect"]
        check_refused(wire, 400, "malformed_body")

    asyncio.run(check())


def test_a_broken_body_after_its_reply_is_not_answered_again() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no", status=413)

    async def check() -> None:
        wire, _ = connected(refuse)
        wire.send(chunked(b"hello")[: -len(b"0\r\n\r\n")])
        await settled()
        wire.send(b"no chunk\r\n" + get())
        await settled()
        assert replies(wire).statuses == [413]
        assert wire.closed

    asyncio.run(check())


def test_a_broken_body_aborts_a_reply_that_has_begun() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        while (await receive())["type"] == "http.request":
            pass
        await send({"type": "http.response.body", "body": b"end"})

    async def check() -> None:
        wire, _ = connected(stream)
        wire.send(chunked(b"hello")[: -len(b"0\r\n\r\n")])
        await settled()
        wire.send(b"no chunk\r\n" + get())
        await settled()
        assert wire.written.endswith(b"4\r\npart\r\n")
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("pipelined", [1, 3])
def test_a_reply_is_told_that_its_client_has_left(pipelined: int) -> None:
    messages: list[str] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await receive()
        messages.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"too late."})

    async def check() -> None:
        wire, _ = connected(waiting)
        wire.send(get() * pipelined)
        await settled()
        wire.lose()
        await settled()
        assert messages == ["http.disconnect"]
        assert b"too late." not in wire.written

    asyncio.run(check())
