"""Headers, trailers and chunk extensions: limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.lanes import mostly_slow
from tests.server.wire import (
    HEAD_TIMEOUT_S,
    LARGE,
    MAX_HEAD_BYTES,
    TimedLoop,
    answer,
    check_refused,
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


class TestSize:
    @pytest.mark.parametrize("size", [MAX_HEAD_BYTES, 100 * MAX_HEAD_BYTES])
    @pytest.mark.parametrize("offer", [(), ("Connection: Upgrade", "Upgrade: h2c")])
    def test_the_body_behind_headers_that_are_too_large_is_not_answered(self, size: int, offer: tuple[str]) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            wire.send(request(get() * 5, f"A: {'x' * size}", *offer))
            await settled()
            check_refused(wire, 431, "head_too_large")

        asyncio.run(check())

    @pytest.mark.parametrize("before", [b"", request(b"before")])
    @pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n"])
    def test_headers_that_arrive_byte_by_byte(self, before: bytes, start: bytes) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            wire.send(before + start)
            await settled()
            wire.written.clear()
            endless = b"a:b\r\n" if start.endswith(b"\r\n") else b"x"
            count = 0
            while not wire.closed:
                # Bytes that arrive with the end of a body are not counted.
                assert count <= MAX_HEAD_BYTES
                position = count % len(endless)
                wire.send(endless[position : position + 1])
                count += 1
            assert len(start) + count > MAX_HEAD_BYTES
            await settled()
            check_refused(wire, 431, "head_too_large")

        asyncio.run(check())

    def test_headers_up_to_the_limit(self) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            lines = len("/xHostxContent-LengthxAx") + 3 * 4
            wire.send(request(b"hello", "A: " + "x" * (MAX_HEAD_BYTES - lines)))
            await settled()
            assert replies(wire).bodies == [b"hello"]

        asyncio.run(check())

    def test_a_body_before_headers_is_not_counted(self) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            sent = request(content(2 * MAX_HEAD_BYTES)) + request(b"next")
            wire.send(sent[:-30])
            await settled()
            wire.send(sent[-30:])
            await settled()
            assert replies(wire).bodies == [content(2 * MAX_HEAD_BYTES), b"next"]

        asyncio.run(check())

    def test_chunks_of_a_byte_that_arrive_byte_by_byte_are_not_counted(self) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            sent = chunked(b"")[: -len(b"0\r\n\r\n")] + b"1\r\nx\r\n" * MAX_HEAD_BYTES + b"0\r\n\r\n"
            for position in range(len(sent)):
                wire.send(sent[position : position + 1])
                if wire.paused:
                    await settled()
            await settled()
            assert replies(wire).bodies == [b"x" * MAX_HEAD_BYTES]

        asyncio.run(check())

    @pytest.mark.parametrize(
        "extension", mostly_slow([b";a=b", b";" + b"x" * 100, b";" + b"x" * MAX_HEAD_BYTES], quick=1)
    )
    def test_endless_chunk_extensions(self, extension: bytes) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            wire.send(chunked(b"")[: -len(b"0\r\n\r\n")])
            chunk = b"1" + extension + b"\r\nx\r\n"
            most = 2 * MAX_HEAD_BYTES if len(chunk) < 18 else 2 + 2 * MAX_HEAD_BYTES // len(chunk)
            for _ in range(most):
                await settled()
                wire.send(chunk)
            if len(chunk) < 18:
                assert not wire.closed
            else:
                check_refused(wire, 431, "head_too_large")

        asyncio.run(check())

    @pytest.mark.parametrize("endless", [b"a: b\r\n", b"a"])
    def test_endless_trailers(self, endless: bytes) -> None:
        async def check() -> None:
            wire, _ = connected(echo)
            wire.send(chunked(b"hello")[: -len(b"\r\n")])
            for _ in range(1 + MAX_HEAD_BYTES // len(endless)):
                await settled()
                wire.send(endless)
            await settled()
            check_refused(wire, 431, "head_too_large")

        asyncio.run(check())


def test_trailers_are_not_headers() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        seen.append(scope["headers"])

    async def check() -> None:
        wire, _ = connected(note)
        wire.send(chunked(b"hello")[: -len(b"\r\n")] + b"Authorization: Bearer x\r\n\r\n" + request(b"next"))
        await settled()
        assert replies(wire).bodies == [b"hello", b"next"]
        assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]

    asyncio.run(check())


class TestTime:
    @pytest.mark.parametrize("before", [b"", get(), get() * 3, request(b"before"), chunked(b"before")])
    @pytest.mark.parametrize("sent", [b"G", b"GET /x HTTP/1.1\r\nHost: x\r\n"])
    @pytest.mark.parametrize("together", [True, False])
    def test_headers_that_stop_arriving(self, before: bytes, sent: bytes, together: bool) -> None:
        async def check() -> None:
            loop = TimedLoop()
            wire, _ = connected(echo_or_empty, loop=loop)
            for part in [before + sent] if together else [before, sent]:
                wire.send(part)
                if before:
                    await settled()
            wire.send(b"")
            wire.written.clear()
            # A keep-alive timeout that was set with the last reply may close the connection earlier.
            closed_early = bool(before) and together
            loop.pass_time(HEAD_TIMEOUT_S - 0.1)
            assert wire.closed == closed_early
            loop.pass_time(0.2)
            await settled()
            assert wire.closed
            if not closed_early:
                check_refused(wire, 408, "head_timeout")
            assert loop.timeouts == []

        asyncio.run(check())

    def test_a_connection_that_sends_nothing(self) -> None:
        async def check() -> None:
            loop = TimedLoop()
            wire, _ = connected(echo, loop=loop)
            wire.send(b"\r\n")
            loop.pass_time(HEAD_TIMEOUT_S)
            check_refused(wire, 408, "head_timeout")

        asyncio.run(check())

    @pytest.mark.parametrize("sent", [get(), request(b"hello"), chunked(b"hello"), request(content(LARGE))])
    def test_no_timer_is_left_by_headers_that_arrived(self, sent: bytes) -> None:
        started = asyncio.Event()

        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            started.set()
            await asyncio.Event().wait()

        async def check() -> None:
            loop = TimedLoop()
            wire, protocol = connected(waiting, loop=loop)
            wire.send(sent[:5])
            wire.send(sent[5:])
            await started.wait()
            assert loop.timeouts == []
            loop.pass_time(10 * HEAD_TIMEOUT_S)
            assert not wire.closed
            for task in protocol.tasks:
                task.cancel()

        asyncio.run(check())

    @pytest.mark.parametrize("sent", [request(b"x" * 100)[:-100], chunked(b"hello")[: -len(b"\r\n")]])
    def test_the_rest_of_a_body_whose_reply_is_sent(self, sent: bytes) -> None:
        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, b"no", status=401)

        async def check() -> None:
            loop = TimedLoop()
            wire, _ = connected(refuse, loop=loop)
            wire.send(sent)
            await settled()
            for _ in range(int(HEAD_TIMEOUT_S)):
                wire.send(b"a")
                loop.pass_time(1.1)
            assert wire.closed
            assert replies(wire).statuses == [401]

        asyncio.run(check())

    @pytest.mark.parametrize("sent", [b"", b"GET", get(), get() + b"GET", request(b"hello")[:-1]])
    @pytest.mark.parametrize("error", [None, ConnectionResetError()])
    def test_a_lost_connection_leaves_no_timer(self, sent: bytes, error: Exception | None) -> None:
        async def check() -> None:
            loop = TimedLoop()
            wire, protocol = connected(echo_or_empty, loop=loop)
            wire.send(sent)
            await settled()
            wire.closed = True
            protocol.connection_lost(error)
            await settled()
            assert loop.timers == []

        asyncio.run(check())

    @pytest.mark.parametrize("behind", [b"", b"\r\n", b"x" * 50, b"x" * 100 + b"\r\n"])
    def test_an_idle_connection_is_closed_in_time(self, behind: bytes) -> None:
        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, b"no", status=413)

        async def check() -> None:
            loop = TimedLoop()
            wire, protocol = connected(refuse, loop=loop)
            wire.send(request(b"x" * 100)[:-100])
            await settled()
            wire.send(behind)
            await settled()
            loop.pass_time(protocol.timeout_keep_alive - 0.1)
            assert not wire.closed
            loop.pass_time(0.2)
            assert wire.closed
            assert replies(wire).statuses == [413]

        asyncio.run(check())
