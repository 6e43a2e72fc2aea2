"""Reading a body, from a fake client that counts the calls of `receive`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from service.api.http import pace
from service.api.http.body import content_length, read_body
from service.errors import BodyTimeoutError, BodyTooLargeError, DecodeError, QueueFullError

LIMIT = 100


class Client:
    """Sends its messages, then nothing, and keeps the connection open."""

    def __init__(self, *messages: dict[str, Any], on_receive: Callable[[], None] = lambda: None) -> None:
        self.messages = list(messages)
        self.received = 0
        self.on_receive = on_receive

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        self.on_receive()
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def chunks(*bodies: bytes) -> list[dict[str, Any]]:
    return [chunk(body, more=number < len(bodies)) for number, body in enumerate(bodies, start=1)]


GONE = {"type": "http.disconnect"}


def read(
    client: Client,
    *,
    length: str | int | None = None,
    chunked: bool = False,
    hold: Callable[[int], None] = lambda count: None,
    timeout_s: float = 60,
    min_bytes_per_s: int = 0,
) -> memoryview:
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    if chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    scope = {"type": "http", "method": "POST", "path": "/loss", "query_string": b"", "headers": headers}
    request = Request(scope, client.receive)

    async def whole() -> memoryview:
        length = content_length(request)
        limits = {"timeout_s": timeout_s, "min_bytes_per_s": min_bytes_per_s}
        return await read_body(request, length, max_bytes=LIMIT, hold=hold, **limits)

    return asyncio.run(whole())


class TestRead:
    @pytest.mark.parametrize(
        "bodies",
        [
            (b"hello world",),
            (b"hello", b" ", b"world"),
            (b"", b"hello world", b""),
            (*[b"%c" % c for c in b"hello world"],),
        ],
    )
    @pytest.mark.parametrize("declared", [True, False])
    def test_the_bytes_in_their_order(self, bodies: tuple[bytes, ...], declared: bool) -> None:
        client = Client(*chunks(*bodies))
        body = read(client, length=11) if declared else read(client, chunked=True)
        assert isinstance(body, memoryview)
        assert body == b"hello world"
        assert client.received == len(bodies)

    def test_without_length_and_without_chunks_there_is_no_body(self) -> None:
        assert read(Client(chunk(b"", more=False))) == b""

    def test_a_message_without_a_body(self) -> None:
        assert read(Client({"type": "http.request"}), length=0) == b""

    @pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
    def test_up_to_the_limit(self, size: int) -> None:
        body = b"x" * size
        assert read(Client(chunk(body, more=False)), length=size) == body
        assert read(Client(*chunks(body[:50], body[50:])), chunked=True) == body

    @pytest.mark.parametrize("length", ["011", "0" * 50 + "11", "11 ", "\t11 \t"])
    def test_zeros_and_whitespace_around_a_length(self, length: str) -> None:
        assert read(Client(chunk(b"hello world", more=False)), length=length) == b"hello world"


class TestReceiveInto:
    """A server with the extension of `service.server.protocol`."""

    def read(self, length: int, sent: bytes, log: list[object]) -> memoryview:
        async def receive_into(body: memoryview, deadline: Callable[[int], float]) -> int:
            assert deadline(0) == pytest.approx(asyncio.get_running_loop().time() + 60, abs=5)
            log.append("received")
            body[: len(sent)] = sent
            return len(sent)

        headers = [(b"content-length", str(length).encode())]
        scope = {"type": "http", "method": "POST", "path": "/loss", "query_string": b"", "headers": headers}
        scope["extensions"] = {"receive_into": receive_into}
        client = Client()
        request = Request(scope, client.receive)
        body = asyncio.run(read_body(request, length, max_bytes=LIMIT, timeout_s=60, hold=log.append))
        assert client.received == 0
        return body

    @pytest.mark.parametrize("sent", [b"", b"hello"])
    def test_the_bytes_are_written_into_the_buffer(self, sent: bytes) -> None:
        log: list[object] = []
        assert self.read(len(sent), sent, log) == sent
        assert log == ["received"]

    def test_fewer_bytes_than_declared(self) -> None:
        with pytest.raises(DecodeError, match="says 5 bytes, 4 came"):
            self.read(5, b"hell", [])

    def test_a_body_that_does_not_arrive_in_time(self) -> None:
        async def receive_into(body: memoryview, deadline: Callable[[int], float]) -> int:
            raise TimeoutError

        request = Request({"type": "http", "extensions": {"receive_into": receive_into}})
        with pytest.raises(BodyTimeoutError, match="in 60 s"):
            asyncio.run(read_body(request, 5, max_bytes=LIMIT, timeout_s=60))

    def test_a_body_that_is_too_large_is_not_received(self) -> None:
        log: list[object] = []
        with pytest.raises(BodyTooLargeError):
            self.read(LIMIT + 1, b"", log)
        assert log == []


class TestTooLarge:
    @pytest.mark.parametrize("length", [LIMIT + 1, 2**64, "9" * 25, "1" + "0" * 5000, "0" * 30 + "1" + "0" * 30])
    def test_a_declared_length_is_refused_before_anything_is_read(self, length: str | int) -> None:
        held: list[int] = []
        client = Client(chunk(b"x"))
        with pytest.raises(BodyTooLargeError) as caught:
            read(client, length=length, hold=held.append)
        assert client.received == 0
        assert held == []
        assert "max_body_bytes" in caught.value.detail
        assert str(LIMIT) in caught.value.detail
        assert len(caught.value.detail) < 200

    def test_reading_stops_at_the_chunk_that_exceeds_the_limit(self) -> None:
        held: list[int] = []
        client = Client(chunk(b"x" * 60), chunk(b"x" * 40), chunk(b"x"), chunk(b"never received"))
        with pytest.raises(BodyTooLargeError):
            read(client, chunked=True, hold=held.append)
        assert client.received == 3
        assert held == [60, 40]

    def test_one_large_chunk(self) -> None:
        held: list[int] = []
        with pytest.raises(BodyTooLargeError):
            read(Client(chunk(b"x" * (LIMIT + 1))), chunked=True, hold=held.append)
        assert held == []


class TestHold:
    """Admission has counted a declared length; `read_body` counts the bytes of chunks."""

    def test_a_declared_body_is_not_counted_again(self) -> None:
        held: list[int] = []
        read(Client(*chunks(b"ab", b"c")), length=3, hold=held.append)
        assert held == []

    def test_each_chunk_is_counted_when_it_arrives(self) -> None:
        log: list[object] = []
        client = Client(*chunks(b"ab", b"", b"cde"), on_receive=lambda: log.append("receive"))
        read(client, chunked=True, hold=log.append)
        assert log == ["receive", 2, "receive", 0, "receive", 3]

    def test_a_chunk_that_is_refused_ends_the_reading(self) -> None:
        def refuse(count: int) -> None:
            raise QueueFullError(f"no memory for {count}")

        client = Client(*chunks(b"ab", b"c"))
        with pytest.raises(QueueFullError, match="no memory for 2"):
            read(client, chunked=True, hold=refuse)
        assert client.received == 1


class TestBuffer:
    @pytest.mark.parametrize("length", [0, 5])
    def test_a_declared_body_is_written_into_memory_of_the_caller(self, length: int) -> None:
        taken: list[memoryview] = []

        def take(count: int) -> memoryview:
            taken.append(memoryview(bytearray(count)))
            return taken[-1]

        headers = [(b"content-length", str(length).encode())]
        client = Client(chunk(b"x" * length, more=False))
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, client.receive)
        body = asyncio.run(read_body(request, length, max_bytes=LIMIT, timeout_s=60, buffer=take))
        assert taken == [body]
        assert body is taken[0]

    def test_no_buffer_is_taken_for_a_body_that_is_too_large(self) -> None:
        taken: list[int] = []

        def take(count: int) -> memoryview:
            taken.append(count)
            return memoryview(bytearray(count))

        client = Client(chunk(b"x"))
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, client.receive)
        with pytest.raises(BodyTooLargeError):
            asyncio.run(read_body(request, LIMIT + 1, max_bytes=LIMIT, timeout_s=60, buffer=take))
        assert (taken, client.received) == ([], 0)


class TestWrongLength:
    @pytest.mark.parametrize(
        "length", ["", "-1", "+5", "5.0", "5, 5", "0x5", "5 5", " ", "five", "٣", "1_0", "²", "x" * 5000]
    )
    def test_a_length_that_is_not_a_number(self, length: str) -> None:
        client = Client(chunk(b"hello", more=False))
        headers = [(b"content-length", length.encode("latin-1", "replace"))]
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, client.receive)
        with pytest.raises(DecodeError) as caught:
            asyncio.run(read_body(request, content_length(request), max_bytes=LIMIT, timeout_s=60))
        assert client.received == 0
        assert len(caught.value.detail) < 200

    @pytest.mark.parametrize("bodies", [(b"hello!",), (b"hel", b"lo", b"!"), (b"", b"hello world")])
    def test_more_bytes_than_declared(self, bodies: tuple[bytes, ...]) -> None:
        with pytest.raises(DecodeError, match="says 5 bytes, more came"):
            read(Client(*chunks(*bodies)), length=5)

    @pytest.mark.parametrize("bodies", [(b"hell",), (b"he", b"l"), (b"",)])
    def test_fewer_bytes_than_declared(self, bodies: tuple[bytes, ...]) -> None:
        with pytest.raises(DecodeError, match=f"says 5 bytes, {sum(map(len, bodies))} came"):
            read(Client(*chunks(*bodies)), length=5)

    def test_a_body_without_a_declared_length(self) -> None:
        with pytest.raises(DecodeError, match="says 0 bytes"):
            read(Client(chunk(b"hello", more=False)))


class TestGoneOrSlow:
    @pytest.mark.parametrize("before", [(), (chunk(b"ab"),), (chunk(b"ab"), chunk(b"c"))])
    @pytest.mark.parametrize("framing", [{"length": 5}, {"chunked": True}])
    def test_a_client_that_leaves(self, before: tuple[dict[str, Any], ...], framing: dict[str, Any]) -> None:
        with pytest.raises(ClientDisconnect):
            read(Client(*before, GONE), **framing)

    @pytest.mark.parametrize("before", [(), (chunk(b"ab"),)])
    @pytest.mark.parametrize("framing", [{"length": 5}, {"chunked": True}])
    def test_a_client_that_stops_sending(self, before: tuple[dict[str, Any], ...], framing: dict[str, Any]) -> None:
        client = Client(*before)
        with pytest.raises(BodyTimeoutError) as caught:
            read(client, timeout_s=0.01, **framing)
        assert caught.value.status == 408
        assert caught.value.headers == {"Connection": "close"}
        assert "0.01 s" in caught.value.detail
        assert client.received == len(before) + 1

    def test_the_time_is_for_the_whole_body(self) -> None:
        class Dripping(Client):
            async def receive(self) -> dict[str, Any]:
                self.received += 1
                await asyncio.sleep(0)
                return chunk(b"")

        client = Dripping()
        with pytest.raises(BodyTimeoutError):
            read(client, chunked=True, timeout_s=0.05)
        assert client.received > 1

    @pytest.mark.parametrize("framing", [{"length": 50}, {"chunked": True}])
    @pytest.mark.parametrize(("rate", "is_slow"), [(0, False), (1000, False), (10_000, True)])
    def test_the_least_rate(
        self, framing: dict[str, Any], rate: int, is_slow: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A byte takes 0.2 ms, so a body of 50 bytes takes longer than the grace of 2 ms."""
        now = 0.0

        class Dripping(Client):
            async def receive(self) -> dict[str, Any]:
                nonlocal now
                now += 0.0002
                await asyncio.sleep(0)
                return await super().receive()

        monkeypatch.setattr(pace, "GRACE_S", 0.002)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "time", lambda self: now)
        client = Dripping(*chunks(*[b"x"] * 50))
        if is_slow:
            with pytest.raises(BodyTimeoutError, match=r"10000 bytes/s \(min_bytes_per_s\)"):
                read(client, min_bytes_per_s=rate, **framing)
        else:
            assert read(client, min_bytes_per_s=rate, **framing) == b"x" * 50
