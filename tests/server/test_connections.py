"""More connections than `max_connections`, and clients that have left while their reply is computed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.server import ServerState

from service.server.protocol import CONTINUE, EXTRA_CONNECTIONS, EXTRA_HEADERS_S, PROBE_S
from tests.server.wire import (
    MAX_CONNECTIONS,
    TimedLoop,
    Wire,
    answer,
    check_refused,
    connected,
    echo,
    echo_or_empty,
    get,
    replies,
    request,
    settled,
)


def full_server() -> tuple[ServerState, list[Wire]]:
    state = ServerState()
    return state, [connected(echo, state=state)[0] for _ in range(MAX_CONNECTIONS)]


class TestTooManyConnections:
    def test_up_to_the_limit_all_are_served(self) -> None:
        async def check() -> None:
            _, wires = full_server()
            for wire in wires:
                wire.send(request(b"one") + request(b"two"))
            await settled()
            assert [replies(wire).bodies for wire in wires] == [[b"one", b"two"]] * MAX_CONNECTIONS

        asyncio.run(check())

    @pytest.mark.parametrize("sent", [get(), request(b"hello"), get().replace(b"/x", b"/healthzz")])
    def test_further_ones_are_refused(self, sent: bytes) -> None:
        async def check() -> None:
            state, _ = full_server()
            wire, _ = connected(echo, state=state)
            wire.send(sent)
            await settled()
            check_refused(wire, 503, "too_many_connections")
            assert replies(wire).headers[0][b"retry-after"] == b"1"

        asyncio.run(check())

    @pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/healthz?a"])
    def test_probes_are_answered_once(self, path: bytes) -> None:
        async def check() -> None:
            state, _ = full_server()
            wire, _ = connected(echo_or_empty, state=state)
            wire.send(get().replace(b"/x", path) * 2)
            await settled()
            assert replies(wire).statuses == [200]
            assert replies(wire).headers[0][b"connection"] == b"close"
            assert wire.closed

        asyncio.run(check())

    def test_a_place_that_is_free_again(self) -> None:
        async def check() -> None:
            state, wires = full_server()
            wires[0].lose()
            wire, _ = connected(echo, state=state)
            wire.send(request(b"hello"))
            await settled()
            assert replies(wire).bodies == [b"hello"]
            assert not wire.closed

        asyncio.run(check())

    def test_those_that_send_nothing_leave_soon(self) -> None:
        async def check() -> None:
            state, _ = full_server()
            loop = TimedLoop()
            wires = [connected(echo, state=state, loop=loop)[0] for _ in range(EXTRA_CONNECTIONS)]
            loop.pass_time(EXTRA_HEADERS_S + 0.1)
            assert all(wire.closed for wire in wires)

        asyncio.run(check())

    def test_far_beyond_the_limit_they_are_closed_at_once(self) -> None:
        async def check() -> None:
            state, _ = full_server()
            wires = [connected(echo, state=state)[0] for _ in range(EXTRA_CONNECTIONS + 1)]
            assert [wire.aborted for wire in wires] == [False] * EXTRA_CONNECTIONS + [True]

        asyncio.run(check())


class TestProbe:
    """A client that has closed its sending side may have left; an interim response makes its kernel say so."""

    @pytest.mark.parametrize("started", [False, True])
    @pytest.mark.parametrize("version", [b"1.1", b"1.0"])
    def test_an_interim_response_while_the_reply_is_computed(self, started: bool, version: bytes) -> None:
        may_answer = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if started:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await may_answer.wait()
            if started:
                await send({"type": "http.response.body", "body": b""})
            else:
                await answer(send, b"")

        async def check() -> None:
            loop = TimedLoop()
            wire, _ = connected(slow, loop=loop)
            wire.send(get().replace(b"1.1", version))
            await settled()
            wire.shut_down()
            loop.pass_time(0.9 * PROBE_S)
            assert CONTINUE not in wire.written
            loop.pass_time(1.5 * PROBE_S)
            count = 2 if version == b"1.1" and not started else 0
            assert wire.written.count(CONTINUE) == count
            may_answer.set()
            await settled()
            loop.pass_time(5 * PROBE_S)
            await settled()
            assert replies(wire).statuses == [100] * count + [200]
            assert wire.closed
            assert loop.timers == []

        asyncio.run(check())

    def test_no_interim_response_in_an_earlier_reply(self) -> None:
        may_answer = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            await may_answer.wait()
            await send({"type": "http.response.body", "body": b"x"})

        async def check() -> None:
            loop = TimedLoop()
            wire, _ = connected(slow, loop=loop)
            wire.send(get() + get())
            await settled()
            wire.shut_down()
            loop.pass_time(3 * PROBE_S)
            may_answer.set()
            await settled()
            assert replies(wire).statuses == [200, 200]

        asyncio.run(check())
