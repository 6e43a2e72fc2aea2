"""Bodies that arrive in pieces of any size, and an application that echoes them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from service.server.reader import HEADERS_READ_BYTES
from tests.server.wire import (
    LARGE,
    SIZES,
    answer,
    body_of,
    chunked,
    connected,
    content,
    echo,
    echo_or_empty,
    get,
    replies,
    request,
    settled,
)


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable garbage collection, so that only reference counts free memory in this block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@given(data=st.data(), kinds=st.lists(st.tuples(SIZES, st.sampled_from(["length", "chunked", "get"])), max_size=4))
def test_requests_cut_anywhere_are_answered_in_order(data: st.DataObject, kinds: list[tuple[int, str]]) -> None:
    bodies = [b"" if kind == "get" else content(size, seed) for seed, (size, kind) in enumerate(kinds)]
    make = {"length": request, "chunked": chunked, "get": lambda body: get()}
    sent = b"".join(make[kind](body) for body, (_, kind) in zip(bodies, kinds, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    waits = data.draw(st.lists(st.booleans(), min_size=len(cuts) + 1, max_size=len(cuts) + 1))

    async def check() -> None:
        wire, _ = connected(echo_or_empty)
        for start, end, wait in zip([0, *cuts], [*cuts, len(sent)], waits, strict=True):
            wire.send(sent[start:end])
            if wait:
                await settled()
        for _ in kinds:
            await settled()
        received = replies(wire) if wire.written else None
        assert (received.bodies if received else []) == bodies
        assert not wire.closed
        assert not wire.kernel

    asyncio.run(check())


def test_the_end_of_a_body_byte_by_byte_followed_by_the_next_request() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        sent = request(content(LARGE)) + request(b"next")
        near = len(sent) - len(request(b"next"))
        wire.send(sent[: near - 50])
        for position in range(near - 50, near + 50):
            wire.send(sent[position : position + 1])
            await settled()
        wire.send(sent[near + 50 :])
        await settled()
        assert replies(wire).bodies == [content(LARGE), b"next"]

    asyncio.run(check())


def test_most_of_a_body_bypasses_the_scratch_buffer() -> None:
    async def check() -> None:
        wire, protocol = connected(echo)
        wire.send(request(content(LARGE)))
        # Until the application receives the body, only the bytes that arrive with the headers are read.
        assert wire.paused
        assert wire.largest_read == HEADERS_READ_BYTES
        assert len(protocol.cycle.body) < HEADERS_READ_BYTES
        await settled()
        assert wire.largest_read > LARGE - HEADERS_READ_BYTES
        assert replies(wire).bodies == [content(LARGE)]
        wire.send(request(content(LARGE)))
        assert len(protocol.cycle.body) < HEADERS_READ_BYTES
        await settled()
        assert replies(wire).bodies == [content(LARGE)] * 2

    asyncio.run(check())


def test_a_request_after_connection_close_is_not_answered() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(request(content(LARGE)))
        await settled()
        wire.send(request(b"last", "Connection: close") + request(b"more"))
        await settled()
        assert replies(wire).bodies == [content(LARGE), b"last"]
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("make", [request, chunked])
def test_an_unread_body_stays_in_the_kernel_and_is_skipped_after_the_reply(make: Any) -> None:
    may_answer = asyncio.Event()

    async def refuse_first(scope: Any, receive: Any, send: Any) -> None:
        if scope["headers"][-1] == (b"x", b"wait"):
            await may_answer.wait()
            await answer(send, b"no", status=413)
        else:
            await echo(scope, receive, send)

    async def check() -> None:
        wire, protocol = connected(refuse_first)
        wire.send(make(content(LARGE), "X: wait") + request(b"after"))
        await settled()
        assert len(wire.kernel) > LARGE - HEADERS_READ_BYTES
        assert len(protocol.cycle.body) <= HEADERS_READ_BYTES
        may_answer.set()
        await settled()
        assert replies(wire).statuses == [413, 200]
        assert replies(wire).bodies == [b"no", b"after"]

    asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
def test_a_client_that_waits_is_told_to_continue(size: int) -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        whole = request(content(size), "Expect: 100-continue")
        wire.send(whole[:-size])
        assert not wire.written
        await settled()
        assert bytes(wire.written) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(whole[-size:])
        await settled()
        assert replies(wire).bodies[-1] == content(size)
        assert wire.written.count(b"100 Continue") == 1

    asyncio.run(check())


@pytest.mark.parametrize("sent", [0, 5, HEADERS_READ_BYTES, LARGE - 1])
def test_a_disconnect_ends_the_wait_and_frees_the_buffer(sent: int) -> None:
    caught: list[type[BaseException]] = []
    buffers: list[weakref.ref[Any]] = []

    async def receiving(scope: Any, receive: Any, send: Any) -> None:
        whole = np.empty(LARGE, np.uint8)
        buffers.append(weakref.ref(whole))
        try:
            await scope["extensions"]["receive_into"](whole.data)
        except ClientDisconnect as err:
            caught.append(type(err))

    async def check() -> None:
        wire, protocol = connected(receiving)
        whole = request(content(LARGE))
        wire.send(whole[: len(whole) - LARGE + sent])
        await settled()
        wire.lose()
        await settled()
        assert caught == [ClientDisconnect]
        assert protocol not in protocol.connections
        assert buffers[0]() is None

    with without_collector():
        asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
def test_neither_a_buffer_nor_its_request_waits_for_the_collector(size: int) -> None:
    buffers: list[weakref.ref[Any]] = []

    async def receiving(scope: Any, receive: Any, send: Any) -> None:
        whole = np.empty(length_of_body, np.uint8)
        buffers.append(weakref.ref(whole))
        await scope["extensions"]["receive_into"](whole.data)
        await answer(send, b"done")

    async def check() -> None:
        wire, protocol = connected(receiving)
        wire.send(request(content(size)))
        await settled()
        assert replies(wire).bodies == [b"done"]
        assert buffers[0]() is None
        cycle = weakref.ref(protocol.cycle)
        wire.send(request(content(size)))
        await settled()
        assert cycle() is None

    length_of_body = size
    with without_collector():
        asyncio.run(check())


@pytest.mark.parametrize("pipelined", [0, 2])
def test_a_closed_connection_does_not_wait_for_the_collector(pipelined: int) -> None:
    async def check() -> None:
        wire, protocol = connected(echo)
        wire.send(request(b"first") + get() * pipelined)
        await settled()
        wire.lose()
        connection, reader = weakref.ref(protocol), weakref.ref(wire.protocol)
        # The event loop drops its references too.
        wire.protocol = None
        del protocol
        await settled()
        assert connection() is None
        assert reader() is None

    with without_collector():
        asyncio.run(check())


@pytest.mark.parametrize("timeouts", [(0, None), (None, 0)])
def test_the_reply_to_an_abandoned_body_is_the_last(timeouts: tuple[float | None, float | None]) -> None:
    freed = asyncio.Event()

    async def impatient(scope: Any, receive: Any, send: Any) -> None:
        body = np.empty(LARGE, np.uint8)
        weakref.finalize(body, freed.set)
        try:
            async with asyncio.timeout(timeouts[0]):
                await scope["extensions"]["receive_into"](body.data, lambda received: timeouts[1])
        except TimeoutError:
            await asyncio.sleep(0)
        del body
        await freed.wait()
        await answer(send, b"late", status=408)

    async def check() -> None:
        wire, _ = connected(impatient)
        wire.send(request(content(LARGE))[: LARGE // 2])
        await settled()
        wire.send(b"more of it")
        await settled()
        assert wire.kernel == b"more of it"
        assert replies(wire).statuses == [408]
        assert replies(wire).headers[0][b"connection"] == b"close"
        assert wire.closed

    asyncio.run(check())


def test_a_cancelled_request_whose_client_has_disconnected() -> None:
    caught: list[type[BaseException]] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        try:
            await scope["extensions"]["receive_into"](np.empty(LARGE, np.uint8).data)
        except asyncio.CancelledError as err:
            caught.append(type(err))

    async def check() -> None:
        wire, protocol = connected(slow)
        wire.send(request(content(LARGE))[: LARGE // 2])
        await settled()
        (task,) = protocol.tasks
        task.cancel()
        wire.lose()
        await settled()
        assert caught == [asyncio.CancelledError]

    asyncio.run(check())


@pytest.mark.parametrize("size", [1, LARGE])
def test_receive_after_the_body_waits_for_the_disconnect(size: int) -> None:
    events: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        await body_of(scope, receive)
        events.append("body")
        events.append((await receive())["type"])

    async def check() -> None:
        wire, _ = connected(listening)
        wire.send(request(content(size), "Expect: 100-continue"))
        await settled()
        assert events == ["body"]
        assert wire.written.count(b"100 Continue") == 1
        wire.lose()
        await settled()
        assert events == ["body", "http.disconnect"]

    asyncio.run(check())


def test_an_extension_that_outlives_its_request() -> None:
    @dataclass
    class Request:
        scope: Any = None

    first = Request()

    async def keeping(scope: Any, receive: Any, send: Any) -> None:
        first.scope = scope
        await echo(scope, receive, send)

    async def check() -> None:
        wire, _ = connected(keeping)
        wire.send(request(b"first") + request(b"second"))
        await settled()
        with pytest.raises(ClientDisconnect):
            await first.scope["extensions"]["receive_into"](memoryview(bytearray(6)))

    asyncio.run(check())
