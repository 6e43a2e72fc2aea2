"""Framing of requests on raw connections: refused requests get their problem, and the connection ends there."""

from __future__ import annotations

import json

import pytest

from tests.live.connection import SMALL, Connection, loss_headers, request
from tests.live.server_process import ServerProcess
from tests.services import ServerWith

GET = b"GET /healthz HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
CHUNKED = loss_headers("Transfer-Encoding: chunked")
CHUNK = b"%x\r\n%b\r\n" % (len(SMALL.content), SMALL.content)
# The default of max_head_bytes.
HEAD_BYTES = 64 * 1024
KEY = "a-key-of-twenty-four-letters"


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (GET + HOST + b"Host: localhost\r\n\r\n", 400, "malformed_body"),
        (GET + b"\r\n", 400, "malformed_body"),
        (GET + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed_body"),
        (loss_headers("Transfer-Encoding: gzip, chunked"), 501, "transfer_encoding"),
        (loss_headers("Transfer-Encoding: identity"), 501, "transfer_encoding"),
        (GET.replace(b"1.1", b"2.0") + HOST + b"\r\n", 505, "http_version"),
        (GET.replace(b"1.1", b"0.9") + HOST + b"\r\n", 505, "http_version"),
        (GET + HOST + b"A: " + b"x" * HEAD_BYTES, 431, "head_too_large"),
        (CHUNKED + CHUNK + b"0\r\n" + b"a: b\r\n" * HEAD_BYTES, 431, "head_too_large"),
        (CHUNKED + b"1;" + b"x" * 4 * HEAD_BYTES, 431, "head_too_large"),
    ],
    ids=[
        "two hosts",
        "no host",
        "length and chunks",
        "gzip",
        "identity",
        "HTTP/2.0",
        "HTTP/0.9",
        "headers",
        "trailers",
        "extension",
    ],
)
def test_a_refused_request_ends_the_connection(server: ServerProcess, refused: bytes, status: int, code: str) -> None:
    with Connection(server) as connection:
        connection.send(GET + HOST + b"\r\n")
        assert connection.reply()[0] == 200
        # The request after the refused one gets no reply: a proxy may find another request in its bytes.
        connection.send(refused + request(SMALL.content))
        received, content = connection.reply()
        assert (received, json.loads(content)["code"]) == (status, code)
        assert connection.is_ended()


def test_extensions_and_trailers_are_ignored(server: ServerProcess) -> None:
    extended = CHUNK.replace(b"\r\n", b";name=value\r\n", 1)
    with Connection(server) as connection:
        for _ in range(2):
            connection.send(CHUNKED + extended + b"0;last\r\nContent-Type: text/csv\r\nHost: other.example\r\n\r\n")
            connection.check(SMALL)


def test_a_key_in_a_trailer_is_no_key(server_with: ServerWith) -> None:
    with Connection(server_with(api_keys=KEY)) as connection:
        connection.send(CHUNKED + CHUNK + b"0\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n")
        status, content = connection.reply()
        assert (status, json.loads(content)["code"]) == (401, "unauthorized")
