"""`BufferedReplies` between an application that streams and a fake server that records the messages."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.api.metrics import Metrics
from service.api.middleware.context import RequestContext
from service.api.middleware.http10 import MEMORY_BYTES, STEP_BYTES, BufferedReplies
from service.errors import InvalidRequestError

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]
TYPE = (b"content-type", b"text/csv")


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [TYPE, *headers]}


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def application(*messages: dict[str, Any], error: BaseException | None = None) -> App:
    """Sends these messages, then raises the error."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def sent_by(
    app: App | BufferedReplies | RequestContext, version: str = "1.0", method: str = "GET"
) -> list[dict[str, Any]]:
    """The messages that reach the server."""
    sent: list[dict[str, Any]] = []
    scope = {"type": "http", "http_version": version, "method": method, "path": "/", "headers": []}

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(app(scope, receive, send))
    return sent


def whole(messages: list[dict[str, Any]]) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body of a complete reply; checks its `Content-Length`."""
    first, *rest = messages
    assert first["type"] == "http.response.start"
    assert [message.get("more_body", False) for message in rest] == [True] * (len(rest) - 1) + [False]
    names = [name for name, _ in first["headers"]]
    assert len(set(names)) == len(names)
    headers = dict(first["headers"])
    body = b"".join(message["body"] for message in rest)
    assert int(headers[b"content-length"]) == len(body)
    return headers, body


class TestStreams:
    @pytest.mark.parametrize("bodies", [[], [b""], [b"a,b\n"], [b"a,b\n", b"", b"1,2\n"], [b"x"] * 500])
    @pytest.mark.parametrize("ends_with", [b"", b"end"])
    @pytest.mark.parametrize("version", ["1.0", "0.9"])
    def test_the_parts_become_one_body_of_a_known_length(
        self, bodies: list[bytes], ends_with: bytes, version: str
    ) -> None:
        messages = [start(), *map(part, bodies), part(ends_with, more=False)]
        headers, body = whole(sent_by(BufferedReplies(application(*messages)), version))
        assert body == b"".join(bodies) + ends_with
        assert headers.keys() == {b"content-type", b"content-length"}

    def test_a_message_without_its_optional_members(self) -> None:
        app = application({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
        headers, body = whole(sent_by(BufferedReplies(app)))
        assert (headers, body) == ({b"content-length": b"0"}, b"")

    @pytest.mark.parametrize("size", [MEMORY_BYTES - 1, MEMORY_BYTES, MEMORY_BYTES + 1, 5 * MEMORY_BYTES + 3])
    def test_beyond_memory_it_is_collected_in_a_file(
        self, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        content = bytes(range(256)) * (size // 256 + 1)
        parts = [part(content[at : min(at + 70_000, size)]) for at in range(0, size, 70_000)]
        sent = sent_by(BufferedReplies(application(start(), *parts, part(b"", more=False))))
        _, body = whole(sent)
        assert body == content[:size]
        assert max(len(message["body"]) for message in sent[1:]) <= STEP_BYTES
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_sent_before_the_end(self) -> None:
        assert sent_by(BufferedReplies(application(start(), part(b"a"), part(b"b")))) == []

    def test_the_messages_of_the_application_are_not_changed(self) -> None:
        first = start()
        whole(sent_by(BufferedReplies(application(first, part(b"", more=False)))))
        assert first == start()


class TestUnchanged:
    def check(self, *messages: dict[str, Any], version: str = "1.0", method: str = "GET") -> None:
        assert sent_by(BufferedReplies(application(*messages)), version, method) == list(messages)

    @pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
    def test_a_reply_that_has_a_length(self, name: bytes) -> None:
        self.check(start((name, b"6")), part(b"abc"), part(b"def", more=False))

    @pytest.mark.parametrize("status", [204, 304])
    def test_a_status_without_a_body(self, status: int) -> None:
        self.check(start(status=status), part(b"", more=False))

    @pytest.mark.parametrize("headers", [[], [(b"content-length", b"6")]])
    def test_a_reply_to_head(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.check(start(*headers), part(b"", more=False), method="HEAD")

    @pytest.mark.parametrize("version", ["1.1", "2"])
    def test_later_versions(self, version: str) -> None:
        self.check(start(), part(b"abc"), part(b"def", more=False), version=version)

    @pytest.mark.parametrize("kind", ["lifespan", "websocket"])
    def test_other_than_http(self, kind: str) -> None:
        seen: list[Any] = []

        async def app(*arguments: Any) -> None:
            seen.extend(arguments)

        arguments = ({"type": kind}, object(), object())
        asyncio.run(BufferedReplies(app)(*arguments))  # type: ignore[arg-type]
        assert tuple(seen) == arguments


class TestErrors:
    """Errors in the middle of a stream: a client must not mistake a part of the reply for a complete one."""

    def test_they_are_raised_and_nothing_is_sent(self) -> None:
        async def outside(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(ZeroDivisionError):
                await BufferedReplies(application(start(), part(b"a"), error=ZeroDivisionError()))(scope, receive, send)

        assert sent_by(outside) == []

    @pytest.mark.parametrize(("error", "status"), [(InvalidRequestError("no"), 422), (RuntimeError("x"), 500)])
    @pytest.mark.parametrize("size", [1, 2 * MEMORY_BYTES])
    def test_they_become_an_error_reply(self, error: Exception, status: int, size: int) -> None:
        broken = application(start(), part(b"a" * size), error=error)
        sent = sent_by(RequestContext(BufferedReplies(broken), Metrics("cpu")))
        assert sent[0]["status"] == status
        headers, body = whole(sent)
        assert orjson.loads(body)["status"] == status
        assert headers[b"content-type"] == b"application/problem+json"

    def test_a_file_that_cannot_be_read_breaks_the_reply_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[int] = []

        async def to_thread(call: Callable[..., Any], argument: Any) -> Any:
            if call.__name__ == "read":
                reads.append(argument)
                if len(reads) == 2:
                    raise OSError
            return call(argument)

        monkeypatch.setattr(asyncio, "to_thread", to_thread)
        stream = application(start(), part(b"a" * 2 * STEP_BYTES), part(b"", more=False))
        first, *rest = sent_by(RequestContext(BufferedReplies(stream), Metrics("cpu")))
        assert dict(first["headers"])[b"content-length"] == b"%d" % (2 * STEP_BYTES)
        assert [(len(message["body"]), message["more_body"]) for message in rest] == [(STEP_BYTES, True)]
