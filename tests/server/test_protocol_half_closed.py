"""Clients that close their sending side (`nc -N`, `shutdown`) and still read: whole requests are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.wire import (
    LARGE,
    answer,
    body_of,
    chunked,
    connected,
    content,
    echo_or_empty,
    get,
    replies,
    request,
    settled,
)

WHOLE = [get(), request(b""), request(b"hello"), chunked(b"hello"), request(content(LARGE)), chunked(content(LARGE))]
IDS = ["get", "empty", "small", "chunked", "large", "large chunked"]


async def slow_echo(scope: Any, receive: Any, send: Any) -> None:
    body = await body_of(scope, receive)
    await asyncio.sleep(0)
    await answer(send, body or b"empty")


@pytest.mark.parametrize("sent", WHOLE, ids=IDS)
@pytest.mark.parametrize("pause", [True, False])
@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_after_a_whole_request(sent: bytes, pause: bool, offer: bytes) -> None:
    async def check() -> None:
        wire, _ = connected(slow_echo)
        wire.send(sent.replace(b"Host: x\r\n", b"Host: x\r\n" + offer))
        if pause:
            await asyncio.sleep(0)
        wire.shut_down()
        for _ in range(3):
            await settled()
        assert replies(wire).statuses == [200]
        assert len(replies(wire).bodies[0]) in (5, LARGE)
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("first", WHOLE, ids=IDS)
@pytest.mark.parametrize("last", WHOLE, ids=IDS)
def test_after_pipelined_requests(first: bytes, last: bytes) -> None:
    async def check() -> None:
        wire, _ = connected(slow_echo)
        wire.send(first + get() + last)
        wire.shut_down()
        for _ in range(5):
            await settled()
        assert replies(wire).statuses == [200] * 3
        assert wire.closed

    asyncio.run(check())


def test_while_the_reply_is_computed() -> None:
    may_answer = asyncio.Event()

    async def computing(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(scope, receive)
        await may_answer.wait()
        await answer(send, body)

    async def check() -> None:
        wire, protocol = connected(computing)
        wire.send(request(b"hello"))
        await settled()
        wire.shut_down()
        await settled()
        assert not wire.closed
        assert not protocol.cycle.disconnected
        may_answer.set()
        await settled()
        assert replies(wire).bodies == [b"hello"]
        assert replies(wire).headers[0][b"connection"] == b"close"
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("before", [b"", get(), request(b"hello")])
def test_while_idle_the_connection_is_closed(before: bytes) -> None:
    async def check() -> None:
        wire, _ = connected(echo_or_empty)
        wire.send(before)
        await settled()
        wire.written.clear()
        wire.shut_down()
        await settled()
        assert wire.closed
        assert not wire.written

    asyncio.run(check())


@pytest.mark.parametrize("before", [b"", get(), request(b"hello")])
@pytest.mark.parametrize("together", [True, False])
def test_in_the_middle_of_headers_the_request_is_not_answered(before: bytes, together: bool) -> None:
    async def check() -> None:
        wire, _ = connected(echo_or_empty)
        wire.send(before)
        if not together:
            await settled()
        wire.send(get()[:-2])
        wire.shut_down()
        await settled()
        assert (replies(wire).statuses if before else []) == [200] * bool(before)
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("make", [request, chunked])
@pytest.mark.parametrize("size", [5, LARGE])
def test_in_the_middle_of_a_body_the_request_ends_without_a_reply(make: Any, size: int) -> None:
    events: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        try:
            await body_of(scope, receive)
        finally:
            events.append("end")

    async def check() -> None:
        wire, protocol = connected(listening)
        wire.send(make(content(size))[:-1])
        await settled()
        wire.shut_down()
        await settled()
        assert wire.closed
        assert events == ["end"]
        assert not protocol.tasks

    asyncio.run(check())


def test_after_a_body_that_the_application_does_not_read() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no", status=413)

    async def check() -> None:
        wire, _ = connected(refuse)
        wire.send(request(content(LARGE)))
        wire.shut_down()
        await settled()
        assert replies(wire).statuses == [413]
        assert wire.closed

    asyncio.run(check())
