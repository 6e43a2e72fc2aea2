"""An offer of an upgrade is ignored: the reply is the same as without the offer (RFC 9110, 7.8)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.server.reader import HEADERS_READ_BYTES, SCRATCH_BYTES
from tests.lanes import mostly_slow
from tests.server.wire import (
    LARGE,
    SIZES,
    Wire,
    answer,
    body_of,
    chunked,
    connected,
    content,
    echo,
    get,
    replies,
    request,
    settled,
)

# The JDK's HttpClient, curl --http2, browsers, and a client that combines it with other options.
OFFERS = [
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA"),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
    ("upgrade: h2c, websocket", "connection: keep-alive, upgrade"),
]
OFFER_NAMES = {b"connection", b"upgrade", b"http2-settings", b"sec-websocket-version", b"sec-websocket-key"}
# Would be answered if a body were read as requests.
SMUGGLED = get() + request(b"smuggled") + get()
MAKE: dict[str, Any] = {"length": request, "chunked": chunked, "get": lambda body, *headers: get(*headers)}


async def describe(scope: Any, receive: Any, send: Any) -> None:
    """Reply with the whole request, without the headers of the offer."""
    body = await body_of(scope, receive)
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"] if name not in OFFER_NAMES]
    seen = [scope["method"], scope["path"], scope["http_version"], headers, sorted(scope["extensions"]), body.hex()]
    await answer(send, orjson.dumps(seen))


async def replies_to(sent: bytes, cuts: list[int] | None = None) -> tuple[bytes, bool]:
    """The bytes of the replies, and True if the connection is closed."""
    wire, _ = connected(describe)
    cuts = cuts or []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        wire.send(sent[start:end])
        await settled()
    for _ in range(6):
        await settled()
    assert not wire.kernel
    return bytes(wire.written), wire.closed


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("body", [b"", b"hello", SMUGGLED, content(LARGE)], ids=["empty", "small", "requests", "large"])
@pytest.mark.parametrize("behind", mostly_slow([request(b"next"), b"", get(), chunked(b"next")], quick=1))
def test_the_reply_is_the_same_as_without_the_offer(
    offer: tuple[str, ...], kind: str, body: bytes, behind: bytes
) -> None:
    async def check() -> None:
        plain = await replies_to(MAKE[kind](body) + behind)
        assert await replies_to(MAKE[kind](body, *offer) + behind) == plain
        assert plain[0].count(b"HTTP/1.1 200 OK") == 1 + bool(behind)

    asyncio.run(check())


@given(
    data=st.data(),
    kinds=st.lists(
        st.tuples(SIZES, st.sampled_from(list(MAKE)), st.sampled_from([(), *OFFERS])), min_size=1, max_size=4
    ),
)
def test_requests_cut_anywhere(data: st.DataObject, kinds: list[tuple[int, str, tuple[str, ...]]]) -> None:
    bodies = [(SMUGGLED * (1 + size // len(SMUGGLED)))[:size] for size, _, _ in kinds]
    sent = b"".join(MAKE[kind](body, *offer) for body, (_, kind, offer) in zip(bodies, kinds, strict=True))
    plain = b"".join(MAKE[kind](body) for body, (_, kind, _) in zip(bodies, kinds, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))

    async def check() -> None:
        expected = await replies_to(plain)
        assert expected[0].count(b"HTTP/1.1 200 OK") == len(kinds)
        assert await replies_to(sent, cuts) == expected

    asyncio.run(check())


@pytest.mark.parametrize("kind", MAKE)
def test_a_request_that_arrives_byte_by_byte(kind: str) -> None:
    async def check() -> None:
        plain = await replies_to(MAKE[kind](SMUGGLED) + get())
        sent = MAKE[kind](SMUGGLED, *OFFERS[0]) + get()
        assert await replies_to(sent, list(range(1, len(sent)))) == plain

    asyncio.run(check())


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize("make", [request, chunked])
def test_a_client_that_waits_to_continue(size: int, make: Any) -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        whole = make(content(size), "Expect: 100-continue", *OFFERS[0])
        body = whole.index(b"\r\n\r\n") + 4
        wire.send(whole[:body])
        await settled()
        assert bytes(wire.written) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(whole[body:] + get())
        await settled()
        assert replies(wire).bodies == [b"", content(size), b""]
        assert wire.written.count(b"100 Continue") == 1

    asyncio.run(check())


def test_a_large_body_is_written_into_its_buffer() -> None:
    async def check() -> None:
        wire, protocol = connected(echo)
        wire.send(request(content(LARGE), *OFFERS[0]))
        assert wire.paused
        assert len(protocol.cycle.body) < HEADERS_READ_BYTES
        await settled()
        assert wire.largest_read > LARGE - HEADERS_READ_BYTES
        assert replies(wire).bodies == [content(LARGE)]

    asyncio.run(check())


@pytest.mark.parametrize("make", [request, chunked])
def test_a_body_that_the_application_does_not_read(make: Any) -> None:
    async def refuse_posts(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", status=200 if scope["method"] == "GET" else 413)

    async def check() -> None:
        wire, _ = connected(refuse_posts)
        wire.send(make(SMUGGLED * 1000, *OFFERS[0]) + get())
        await settled()
        assert replies(wire).statuses == [413, 200]
        assert not wire.closed

    asyncio.run(check())


def test_an_offer_on_the_last_request() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(request(b"last", "Connection: close, Upgrade", "Upgrade: h2c") + get())
        await settled()
        assert replies(wire).bodies == [b"last"]
        assert replies(wire).headers[0][b"connection"] == b"close"
        assert wire.closed

    asyncio.run(check())


def test_an_offer_of_http_1_0() -> None:
    async def check() -> None:
        wire, _ = connected(echo)
        wire.send(request(b"old", *OFFERS[0]).replace(b"HTTP/1.1", b"HTTP/1.0") + get())
        await settled()
        assert replies(wire).bodies == [b"old"]
        assert wire.closed

    asyncio.run(check())


@pytest.mark.parametrize(
    "offer", mostly_slow([get(*OFFERS[0]), b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n"], quick=1), ids=["h2c", "connect"]
)
def test_as_many_offers_as_fit_into_one_read(offer: bytes) -> None:
    async def check() -> None:
        wire, protocol = connected(refuse_methods)
        # The largest reads are those in a body.
        wire.send(chunked(b"hello")[: -len(b"0\r\n\r\n")])
        await settled()
        count = SCRATCH_BYTES // len(offer) - 1
        wire.send(b"0\r\n\r\n" + offer * count)
        assert wire.largest_read > SCRATCH_BYTES - 2 * len(offer)
        while protocol.pipeline:
            await settled()
        await settled()
        assert len(replies(wire).statuses) == 1 + count
        assert not wire.closed

    asyncio.run(check())


class TestConnect:
    @pytest.mark.parametrize("target", [b"example.org:443", b"example.org", b"/x", b"http://example.org/x", b"*"])
    @pytest.mark.parametrize("headers", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_it_opens_no_tunnel(self, target: bytes, headers: bytes) -> None:
        body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in headers else b"hello" if headers else b""

        async def check() -> Wire:
            wire, _ = connected(refuse_methods)
            wire.send(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + body + get())
            await settled()
            return wire

        wire = asyncio.run(check())
        statuses = replies(wire).statuses
        # Either the next request is answered, or the connection is closed.
        assert (statuses, wire.closed) in (([405, 200], False), ([400], True))
        assert statuses == [405, 200] or not target.startswith(b"/")


async def refuse_methods(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"", status=200 if scope["method"] == "GET" else 405)
