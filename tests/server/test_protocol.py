"""The HTTP protocol between a transport that cuts what arrives anywhere and an application that echoes bodies."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools
import numpy as np
import orjson
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from service.errors import LossServiceError, QueueFullError
from service.server.protocol import (
    HEAD_READ_BYTES,
    SCRATCH_BYTES,
    AfterAnswer,
    BoundedHttpProtocol,
    Refusal,
    Wait,
    bounded_protocol,
)
from service.server.timer import Timer
from tests.clock import Clock

LARGE = 3 * SCRATCH_BYTES + 7


class Wire(asyncio.Transport):
    """A transport as the event loop has it: what is sent waits in the kernel while reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.kernel = bytearray()
        self.written = bytearray()
        self.paused = self.closed = False
        self.largest_read = 0

    def send(self, data: bytes) -> None:
        self.kernel += data
        self.deliver()

    def deliver(self) -> None:
        while self.kernel and not self.paused and not self.closed:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(self.kernel))
            self.largest_read = max(self.largest_read, count)
            buffer[:count] = self.kernel[:count]
            del self.kernel[:count]
            del buffer
            self.protocol.buffer_updated(count)

    def lose(self) -> None:
        self.closed = True
        self.protocol.connection_lost(None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        # As in the event loop: not in the middle of the call.
        asyncio.get_running_loop().call_soon(self.deliver)

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


App = Callable[[Any, Any, Any], Awaitable[None]]


def length_of(scope: Any) -> int | None:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), None)


async def body_of(scope: Any, receive: Any) -> bytes:
    """The body, by the extension where its length is known."""
    length = length_of(scope)
    if length is not None:
        body = np.empty(length, np.uint8).data
        count = await scope["extensions"]["receive_into"](body)
        return bytes(body[:count])
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def answer(send: Any, content: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, await body_of(scope, receive))


def connected(
    app: App,
    refusal: Refusal = lambda *_: None,
    wait_for_place: Wait = lambda go_on: go_on(),
    after_answer: AfterAnswer = lambda *_: False,
) -> tuple[Wire, BoundedHttpProtocol]:
    kind = bounded_protocol(
        max_head_bytes=4096,
        head_timeout_s=60,
        refusal=refusal,
        wait_for_place=wait_for_place,
        after_answer=after_answer,
    )
    config = uvicorn.Config(cast(Any, app), lifespan="off", log_config=None)
    protocol = kind(config=config, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop())
    wire = Wire()
    protocol.connection_made(wire)
    return wire, protocol


class Replies:
    """What came back, parsed by the other side of the same library."""

    def __init__(self, written: bytes) -> None:
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(written)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")
        self.headers.append({})

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[-1][name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def replies(wire: Wire) -> Replies:
    return Replies(bytes(wire.written))


def request(body: bytes, *headers: str) -> bytes:
    lines = ["POST /x HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def content(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


SIZES = st.one_of(
    st.sampled_from([0, 1, HEAD_READ_BYTES - 1, HEAD_READ_BYTES, HEAD_READ_BYTES + 1, SCRATCH_BYTES + 1, LARGE]),
    st.integers(0, 100),
    st.integers(0, LARGE),
)


@given(data=st.data(), kinds=st.lists(st.tuples(SIZES, st.sampled_from(["length", "chunked", "get"])), max_size=4))
def test_requests_cut_anywhere_are_answered_in_their_order(data: st.DataObject, kinds: list[tuple[int, str]]) -> None:
    bodies = [b"" if kind == "get" else content(size, seed) for seed, (size, kind) in enumerate(kinds)]
    sent = b"".join(
        b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        if kind == "get"
        else chunked(body)
        if kind == "chunked"
        else request(body)
        for body, (_, kind) in zip(bodies, kinds, strict=True)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    waits = data.draw(st.lists(st.booleans(), min_size=len(cuts) + 1, max_size=len(cuts) + 1))

    async def check() -> None:
        wire, _ = connected(get_or_echo)
        for start, end, wait in zip([0, *cuts], [*cuts, len(sent)], waits, strict=True):
            wire.send(sent[start:end])
            if wait:
                await settled()
        for _ in kinds:
            await settled()
        got = replies(wire) if wire.written else None
        assert (got.bodies if got else []) == bodies
        assert not wire.closed
        assert not wire.kernel

    async def get_or_echo(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await answer(send, b"")
        else:
            await echo(scope, receive, send)

    asyncio.run(check())


def test_the_end_of_a_body_byte_by_byte_with_the_next_request_behind_it() -> None:
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


def test_a_request_before_it_counts_for_no_head() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        sent = request(content(8000)) + request(b"next")
        wire.send(sent[:-30])
        await settled()
        wire.send(sent[-30:])
        await settled()
        assert replies(wire).bodies == [content(8000), b"next"]

    asyncio.run(check())


def test_the_bulk_of_a_body_passes_no_scratch_buffer() -> None:
    async def check() -> None:
        wire, protocol = connected(echo)
        wire.send(request(content(LARGE)))
        # Until the application asks, no more is taken than came with the head.
        assert wire.paused
        assert wire.largest_read == HEAD_READ_BYTES
        assert len(protocol.cycle.body) < HEAD_READ_BYTES
        await settled()
        assert wire.largest_read > LARGE - HEAD_READ_BYTES
        assert replies(wire).bodies == [content(LARGE)]
        wire.send(request(content(LARGE)))
        assert len(protocol.cycle.body) < HEAD_READ_BYTES
        await settled()
        assert replies(wire).bodies == [content(LARGE)] * 2

    asyncio.run(check())


def test_what_comes_after_the_last_request_is_not_answered() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(request(content(LARGE)))
        await settled()
        wire.send(request(b"last", "Connection: close") + request(b"more"))
        await settled()
        assert replies(wire).bodies == [content(LARGE), b"last"]
        assert wire.closed

    asyncio.run(check())


def test_what_nobody_asks_for_stays_in_the_kernel_and_is_skipped_after_the_reply() -> None:
    go = asyncio.Event()

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        if scope["headers"][-1] == (b"x", b"wait"):
            await go.wait()
            await answer(send, b"no", status=413)
        else:
            await echo(scope, receive, send)

    async def check() -> None:
        wire, protocol = connected(deaf)
        wire.send(request(content(LARGE), "X: wait") + request(b"after"))
        await settled()
        assert len(wire.kernel) > LARGE - HEAD_READ_BYTES
        assert len(protocol.cycle.body) <= HEAD_READ_BYTES
        go.set()
        await settled()
        assert replies(wire).statuses == [413, 200]
        assert replies(wire).bodies == [b"no", b"after"]

    asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
def test_a_client_that_waits_is_told_to_go_on(size: int) -> None:
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


@pytest.mark.parametrize("sent", [0, 5, HEAD_READ_BYTES, LARGE - 1])
def test_a_client_that_leaves_ends_the_waiting_and_frees_the_buffer(sent: int) -> None:
    caught: list[type[BaseException]] = []
    buffers: list[weakref.ref[Any]] = []

    async def taking(scope: Any, receive: Any, send: Any) -> None:
        whole = np.empty(LARGE, np.uint8)
        buffers.append(weakref.ref(whole))
        try:
            await scope["extensions"]["receive_into"](whole.data)
        except ClientDisconnect as err:
            caught.append(type(err))

    async def check() -> None:
        wire, protocol = connected(taking)
        whole = request(content(LARGE))
        wire.send(whole[: len(whole) - LARGE + sent])
        await settled()
        wire.lose()
        await settled()
        assert caught == [ClientDisconnect]
        assert protocol not in protocol.connections
        assert buffers[0]() is None

    gc.disable()
    try:
        asyncio.run(check())
    finally:
        gc.enable()


def test_neither_a_buffer_nor_its_request_waits_for_the_collector() -> None:
    buffers: list[weakref.ref[Any]] = []

    async def taking(scope: Any, receive: Any, send: Any) -> None:
        whole = np.empty(LARGE, np.uint8)
        buffers.append(weakref.ref(whole))
        await scope["extensions"]["receive_into"](whole.data)
        await answer(send, b"done")

    async def check() -> None:
        wire, protocol = connected(taking)
        wire.send(request(content(LARGE)))
        await settled()
        assert replies(wire).bodies == [b"done"]
        assert buffers[0]() is None
        cycle = weakref.ref(protocol.cycle)
        wire.send(request(b"next"))
        await settled()
        assert cycle() is None

    gc.disable()
    try:
        asyncio.run(check())
    finally:
        gc.enable()


@pytest.mark.parametrize("timeouts", [(0, None), (None, 0)])
def test_the_reply_to_a_body_that_is_given_up_is_the_last(timeouts: tuple[int | None, int | None]) -> None:
    freed = asyncio.Event()

    async def impatient(scope: Any, receive: Any, send: Any) -> None:
        body = np.empty(LARGE, np.uint8)
        weakref.finalize(body, freed.set)
        try:
            async with asyncio.timeout(timeouts[0]):
                await scope["extensions"]["receive_into"](body.data, timeouts[1])
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


def test_receive_after_the_body_waits_for_the_client_to_leave() -> None:
    heard: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        await body_of(scope, receive)
        heard.append("body")
        heard.append((await receive())["type"])

    async def check(size: int) -> None:
        heard.clear()
        wire, _ = connected(listening)
        wire.send(request(content(size), "Expect: 100-continue"))
        await settled()
        assert heard == ["body"]
        assert wire.written.count(b"100 Continue") == 1
        wire.lose()
        await settled()
        assert heard == ["body", "http.disconnect"]

    for size in (1, LARGE):
        asyncio.run(check(size))


def test_an_extension_that_outlives_its_request() -> None:
    @dataclass
    class Kept:
        scope: Any = None

    kept = Kept()

    async def keeping(scope: Any, receive: Any, send: Any) -> None:
        kept.scope = scope
        await echo(scope, receive, send)

    async def check() -> None:
        wire, _ = connected(keeping)
        wire.send(request(b"first") + request(b"second"))
        await settled()
        with pytest.raises(ClientDisconnect):
            await kept.scope["extensions"]["receive_into"](memoryview(bytearray(6)))

    asyncio.run(check())


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
    ],
)
def test_a_length_that_could_be_read_in_two_ways_is_no_request(head: bytes) -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(b"POST /x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nhello")
        await settled()
        assert replies(wire).statuses == [400]
        assert wire.closed

    asyncio.run(check())


def full(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[LossServiceError, str] | None:
    """Refuses the requests that say so in a header, whose value becomes the id."""
    number = dict(headers).get(b"x-full")
    return None if number is None else (QueueFullError("full", headers={"Retry-After": "1"}), number.decode())


@given(data=st.data(), kinds=st.lists(st.tuples(SIZES, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_what_is_refused_at_once_leaves_the_connection_to_the_next(
    data: st.DataObject, kinds: list[tuple[int, bool, bool]]
) -> None:
    sent = b""
    for number, (size, refused, in_chunks) in enumerate(kinds):
        whole = chunked(content(size, number)) if in_chunks else request(content(size, number))
        sent += whole.replace(b"\r\n", b"\r\nX-Full: %d\r\n" % number, 1) if refused else whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))

    async def check() -> None:
        wire, protocol = connected(echo, full)
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            wire.send(sent[start:end])
            await settled()
        for _ in kinds:
            await settled()
        got = replies(wire)
        assert len(got.statuses) == len(kinds)
        for number, (size, refused, _) in enumerate(kinds):
            if got.statuses[number] == 200:
                # A refused one gets here only behind a request that was not answered yet.
                assert got.bodies[number] == content(size, number)
                assert not refused or (number and got.statuses[number - 1] == 200)
            else:
                assert refused
                assert (got.statuses[number], got.headers[number][b"x-request-id"]) == (429, b"%d" % number)
                assert got.headers[number][b"retry-after"] == b"1"
                assert orjson.loads(got.bodies[number])["code"] == "queue_full"
        assert not wire.closed
        assert not wire.kernel
        protocol.connection_lost(None)

    asyncio.run(check())


def test_the_body_of_what_is_refused_passes_no_parser() -> None:
    async def check() -> None:
        wire, protocol = connected(echo, full)
        wire.send(request(content(LARGE), "X-Full: 1"))
        assert wire.largest_read == SCRATCH_BYTES
        assert protocol.cycle is None
        wire.send(request(b"after"))
        await settled()
        assert replies(wire).statuses == [429, 200]

    asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
def test_who_is_refused_is_not_read_until_it_may_go_on(size: int) -> None:
    line: list[Callable[[], None]] = []

    async def check() -> None:
        wire, _ = connected(echo, full, line.append)
        wire.send(request(content(size), "X-Full: 1"))
        for letter in b"after", b"that":
            wire.send(request(letter))
        await settled()
        assert replies(wire).statuses == [429]
        assert wire.kernel.endswith(request(b"after") + request(b"that"))
        (go_on,) = line
        go_on()
        await settled()
        assert replies(wire).bodies[1:] == [b"after", b"that"]

    asyncio.run(check())


def test_who_has_left_or_sends_a_body_meanwhile_is_left_alone_when_it_may_go_on() -> None:
    line: list[Callable[[], None]] = []

    async def check() -> None:
        wire, _ = connected(echo, full, line.append)
        wire.send(request(b"x", "X-Full: 1") + request(content(LARGE))[:-LARGE])
        # The next one came along; its body is not read before the application asks for it.
        line.pop()()
        assert wire.paused
        wire.send(content(LARGE))
        await settled()
        assert replies(wire).bodies[1] == content(LARGE)

        wire.send(request(b"y", "X-Full: 2"))
        wire.close()
        wire.paused = True
        line.pop()()
        assert wire.paused

    asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
def test_who_is_answered_is_not_read_either_while_it_stands_in_line(size: int) -> None:
    line: list[Callable[[], None]] = []

    def stand(target: bytes, go_on: Callable[[], None]) -> bool:
        assert target == b"/x?y"
        line.append(go_on)
        return len(line) < 3

    async def check() -> None:
        wire, _ = connected(echo, after_answer=stand)
        first, second, third = (request(content(size, number)).replace(b"/x", b"/x?y", 1) for number in range(3))
        wire.send(first)
        await settled()
        wire.send(second)
        await settled()
        assert replies(wire).bodies == [content(size, 0)]
        assert bytes(wire.kernel) == second
        line[0]()
        await settled()
        assert replies(wire).bodies[1:] == [content(size, 1)]
        # Who may go on before there is anything is read when it comes.
        line[1]()
        wire.send(third)
        await settled()
        wire.send(third)
        await settled()
        assert replies(wire).bodies[2:] == [content(size, 2)] * 2

    asyncio.run(check())


def test_what_was_sent_behind_a_request_is_answered_before_anybody_stands_in_line() -> None:
    line: list[Callable[[], None]] = []

    async def check() -> None:
        wire, _ = connected(echo, after_answer=lambda target, go_on: not line.append(go_on))
        wire.send(request(b"one") + request(b"two"))
        await settled()
        assert replies(wire).bodies == [b"one", b"two"]
        assert wire.paused
        assert len(line) == 1

    asyncio.run(check())


async def unwanted(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers before a body has come."""
    await answer(send, b"no", 413)


def test_whose_body_is_not_wanted_does_not_stand_in_line_before_it_has_come() -> None:
    async def check() -> None:
        wire, _ = connected(unwanted, after_answer=lambda target, go_on: True)
        whole = request(content(LARGE))
        wire.send(whole[:-LARGE])
        await settled()
        assert replies(wire).statuses == [413]
        assert not wire.paused

    asyncio.run(check())


@pytest.mark.parametrize("whole", [request(content(LARGE)), chunked(content(LARGE))])
def test_behind_a_body_that_was_not_wanted_a_refused_one_may_go_on_too(whole: bytes) -> None:
    line: list[Callable[[], None]] = []

    async def check() -> None:
        wire, protocol = connected(unwanted, full, line.append)
        wire.send(whole[:100])
        await settled()
        wire.send(whole[100:])
        await settled()
        assert not protocol.in_body()
        wire.send(request(content(LARGE), "X-Full: 1"))
        wire.send(request(b"after"))
        await settled()
        assert replies(wire).statuses == [413, 429]
        (go_on,) = line
        go_on()
        await settled()
        assert replies(wire).statuses == [413, 429, 413]
        assert not wire.kernel

    asyncio.run(check())


@pytest.mark.parametrize("header", ["Connection: close", "Expect: 100-continue"])
def test_a_refusal_ends_the_connection_where_it_is_not_known_what_comes_next(header: str) -> None:
    async def check() -> None:
        wire, _ = connected(echo, full)
        wire.send(request(b"x" * 100, "X-Full: 1", header))
        await settled()
        got = replies(wire)
        assert got.statuses == [429]
        assert got.headers[0][b"connection"] == b"close"
        assert wire.closed

    asyncio.run(check())


def test_the_body_behind_a_head_that_is_too_large_is_nobodys() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(request(b"x" * 100, f"A: {'x' * 5000}"))
        await settled()
        assert replies(wire).statuses == [431]
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize("behind", [b"", request(b"z" * 10)[:-1]])
def test_after_refusals_an_idle_connection_is_closed_in_time_and_one_with_a_request_is_not(behind: bytes) -> None:
    async def check() -> None:
        wire, protocol = connected(echo, full)
        clock = Clock()
        protocol._idle_timer = Timer(cast(Any, clock), protocol.timeout_keep_alive_handler)
        wire.send(request(b"x", "X-Full: 1") + request(b"y", "X-Full: 2"))
        clock.pass_to(protocol.timeout_keep_alive / 2)
        if behind:
            wire.send(behind)
        clock.pass_to(protocol.timeout_keep_alive * 2)
        assert wire.closed == (not behind)

    asyncio.run(check())


def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    async def check() -> None:
        wire, protocol = connected(echo)
        wire.send(request(b"x"))
        await settled()
        protocol.connection_lost(None)
        scheduled = cast(Any, asyncio.get_running_loop())._scheduled
        assert all(timer.cancelled() for timer in scheduled)

    asyncio.run(check())
