"""Versions and framing: what a proxy in front of the service may read differently is refused, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.wire import Wire, check_refused, connected, echo, get, replies, settled

START = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
BEHIND = get()


async def sent(request: bytes) -> Wire:
    wire, _ = connected(echo)
    wire.send(request)
    for _ in range(3):
        await settled()
    return wire


def refused(request: bytes, status: int = 400, code: str = "malformed_body") -> None:
    async def check() -> None:
        check_refused(await sent(request + BEHIND), status, code)

    asyncio.run(check())


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Content-Length: 5, 5",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5 5",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length : 5",
        b" Content-Length: 5",
        b"A: b\r\n Content-Length: 5",
        b"A: b\nContent-Length: 5",
        b"A: b\rContent-Length: 5",
        b"A: b\0\r\nContent-Length: 5",
        b"Host: y\r\nContent-Length: 5",
        b"Host: x\r\nContent-Length: 5",
    ],
)
@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_request_of_ambiguous_length_is_refused(framing: bytes, offer: bytes) -> None:
    refused(START + offer + framing + b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "coding",
    [
        b"gzip",
        b"gzip, chunked",
        b"gzip,chunked",
        b"identity, chunked",
        b"x-chunked, chunked",
        b"gzip\r\nTransfer-Encoding: chunked",
        b"chunked;q=1, chunked",
    ],
)
@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_another_transfer_coding_is_refused(coding: bytes, offer: bytes) -> None:
    refused(START + offer + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n", 501, "transfer_encoding")


@pytest.mark.parametrize("line", [b"GET / HTTP/1.2\r\n", b"GET / HTTP/3.0\r\n", b"GET / HTTP/1.1\n"])
def test_other_versions_are_refused(line: bytes) -> None:
    refused(line + b"Host: x\r\n\r\n")


@pytest.mark.parametrize("line", [b"GET / HTTP/2.0\r\n", b"GET / HTTP/0.9\r\n", b"GET /\r\n"])
def test_a_version_that_is_not_supported(line: bytes) -> None:
    refused(line + b"Host: x\r\n\r\n", 505, "http_version")


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT"])
def test_a_request_without_host_is_refused(method: bytes) -> None:
    refused(method + b" /x HTTP/1.1\r\nA: Host: x\r\n\r\n")


def test_chunks_of_http_1_0_are_refused() -> None:
    refused(CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n")


@pytest.mark.parametrize(
    "other", [b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / FTP/1.1\r\n\r\n"]
)
def test_other_protocols_are_refused(other: bytes) -> None:
    refused(other)


@pytest.mark.parametrize(
    "body",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhello0\r\n\r\n",
        b"ffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_are_not_clear_are_refused(body: bytes) -> None:
    refused(CHUNKED + body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        START + b"Content-Length: 5 \r\n\r\nhello",
        START + b"Content-Length:\t5\t\r\n\r\nhello",
        START + b"Content-Length: 0005\r\n\r\nhello",
        START + b"Expect: 100-continue \r\nContent-Length: 5\r\n\r\nhello",
        START.replace(b"Host: x", b"Host:") + b"Content-Length: 5\r\n\r\nhello",
        START.replace(b" /x", b" http://y/x") + b"Content-Length: 5\r\n\r\nhello",
        b"\r\n" + START + b"Content-Length: 5\r\n\r\nhello",
        START.replace(b"1.1", b"1.0") + b"Content-Length: 5\r\n\r\nhello",
        b"POST /x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        CHUNKED.replace(b"chunked", b"Chunked ") + b"5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
        CHUNKED + b"00005\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\nHost: y\r\nA: b\r\n\r\n",
    ],
)
def test_what_the_rules_allow_is_answered(request_bytes: bytes) -> None:
    async def check() -> None:
        wire = await sent(request_bytes)
        assert replies(wire).statuses[-1] == 200
        assert replies(wire).bodies[-1] == b"hello"

    asyncio.run(check())


def test_the_whitespace_behind_a_value_is_not_part_of_it() -> None:
    async def note(scope: Any, receive: Any, send: Any) -> None:
        assert (b"content-length", b"5") in scope["headers"]
        assert (b"a", b"b c") in scope["headers"]
        await echo(scope, receive, send)

    async def check() -> None:
        wire, _ = connected(note)
        wire.send(START + b"Content-Length: 5 \t\r\nA: \t b c\t\r\n\r\nhello")
        await settled()
        assert replies(wire).bodies == [b"hello"]

    asyncio.run(check())
