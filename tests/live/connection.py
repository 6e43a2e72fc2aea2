"""Raw connections to a service, and loss requests with their expected results."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.contract.test_errors import SAFETENSORS
from tests.live.server_process import ServerProcess

# As the JDK's HttpClient and curl --http2 send it.
H2C_OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA")
WEBSOCKET_OFFER = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")


@dataclass(frozen=True)
class LossBody:
    """A safetensors body, and its loss by the formula in float64."""

    content: bytes
    loss: float

    @classmethod
    def of(cls, rows: int, classes: int = 10, seed: int = 0) -> LossBody:
        rng = np.random.default_rng(seed)
        logits, targets = rng.standard_normal((rows, classes), dtype=np.float32), rng.integers(0, classes, rows)
        at_target = logits[np.arange(rows), targets].astype(np.float64)
        cross_entropy = np.log(np.exp(logits).sum(1, dtype=np.float64)) - at_target
        loss = (1 - np.exp(-cross_entropy)) ** 2 * cross_entropy
        return cls(save({"logits": logits, "targets": targets}), float(loss.mean()))

    def check(self, reply: bytes) -> None:
        assert float(load(reply)["loss"]) == pytest.approx(self.loss, rel=1e-5)


SMALL, LARGE = LossBody.of(20), LossBody.of(100_000)


def loss_headers(*headers: str) -> bytes:
    lines = ["POST /loss HTTP/1.1", "Host: localhost", f"Content-Type: {SAFETENSORS['Content-Type']}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def request(body: bytes, *headers: str) -> bytes:
    return loss_headers(f"Content-Length: {len(body)}", *headers) + body


def chunked_request(body: bytes, *headers: str, step: int = 70_000) -> bytes:
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return loss_headers("Transfer-Encoding: chunked", *headers) + chunks + b"0\r\n\r\n"


class Connection:
    """A raw connection that reads its replies in order."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def shut_down(self) -> None:
        """Close the sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next reply."""
        status = int(self._file.readline().split()[1])
        lines = iter(lambda: self._file.readline().decode().strip(), "")
        return status, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    def reply(self) -> tuple[int, bytes]:
        """Status and body of the next reply, which has a `Content-Length`."""
        status, headers = self.head()
        assert "transfer-encoding" not in headers
        return status, self._file.read(int(headers.get("content-length", "0")))

    def check(self, expected: LossBody) -> None:
        """Check that the next reply has the loss of this body."""
        status, content = self.reply()
        assert status == 200, content
        expected.check(content)

    def rest(self) -> bytes:
        """All bytes until the service closes the connection."""
        return self._file.read()

    def at_end(self) -> bool:
        return self._file.read(1) == b""

    def is_ended(self) -> bool:
        """`at_end`, also if the kernel of the service has reset the connection since it had unread bytes."""
        try:
            return self.at_end()
        except ConnectionResetError:
            return True


def reply_to_http10(server: ServerProcess, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
    """Status, headers and body of a reply over HTTP/1.0, which ends when the connection is closed."""
    lines = [f"{method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    with Connection(server) as connection:
        connection.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        return *connection.head(), connection.rest()
