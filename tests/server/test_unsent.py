"""A connection whose client does not take the reply is aborted; one whose client is slow, but not too slow, is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.wire import (
    LARGE,
    MIN_BYTES_PER_S,
    WRITE_TIMEOUT_S,
    TimedLoop,
    Wire,
    answer,
    connected,
    get,
    request,
    settled,
)

LEAST = int(MIN_BYTES_PER_S * WRITE_TIMEOUT_S)


def answering(size: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"x" * size)

    return app


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    """An application that sends `LARGE` bytes, a part whenever the server lets it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
    left = LARGE
    while left:
        part = min(left, 10_000)
        left -= part
        await send({"type": "http.response.body", "body": b"x" * part, "more_body": left > 0})


async def unread(app: Any, sent: bytes) -> tuple[TimedLoop, Wire]:
    loop = TimedLoop()
    wire, _ = connected(app, loop=loop)
    wire.is_read = False
    wire.send(sent)
    await settled()
    assert wire.unsent > 0
    return loop, wire


@pytest.mark.parametrize(
    ("app", "sent"),
    [
        (answering(1), get()),
        (answering(1), get() * 50),
        (answering(LARGE), get()),
        (answering(LARGE), request(b"hello", "Connection: close")),
        (streaming, get()),
        (streaming, get() + b"garbage"),
        (answering(1), b"garbage\r\n\r\n"),
    ],
)
def test_a_reply_that_nobody_reads(app: Any, sent: bytes) -> None:
    async def check() -> None:
        loop, wire = await unread(app, sent)
        loop.pass_time(WRITE_TIMEOUT_S)
        assert not wire.aborted
        loop.pass_time(0.2 * WRITE_TIMEOUT_S)
        assert wire.aborted
        await settled()
        assert loop.timers == []

    asyncio.run(check())


@pytest.mark.parametrize("app", [answering(LARGE), streaming])
@pytest.mark.parametrize("enough", [True, False])
def test_the_least_rate(app: Any, enough: bool) -> None:
    async def check() -> None:
        loop, wire = await unread(app, get())
        while wire.unsent and not wire.aborted:
            wire.take(LEAST // 10 + 10 if enough else LEAST // 20)
            loop.pass_time(WRITE_TIMEOUT_S / 10)
            await settled()
        assert wire.aborted != enough

    asyncio.run(check())


def test_the_end_of_a_reply_may_be_smaller_than_the_least_rate() -> None:
    async def check() -> None:
        loop, wire = await unread(answering(LEAST // 2), get())
        loop.pass_time(0.9 * WRITE_TIMEOUT_S)
        wire.take(wire.unsent)
        loop.pass_time(WRITE_TIMEOUT_S)
        assert not wire.aborted

    asyncio.run(check())


def test_an_application_that_pauses_is_not_a_slow_client() -> None:
    may_go_on = asyncio.Event()

    async def pausing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await may_go_on.wait()
        await send({"type": "http.response.body", "body": b"x"})

    async def check() -> None:
        loop = TimedLoop()
        wire, _ = connected(pausing, loop=loop)
        wire.send(get())
        await settled()
        loop.pass_time(5 * WRITE_TIMEOUT_S)
        assert not wire.closed
        may_go_on.set()
        await settled()
        assert wire.written.endswith(b"0\r\n\r\n")

    asyncio.run(check())
