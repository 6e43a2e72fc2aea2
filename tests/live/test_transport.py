"""Requests on their way from the socket to the app, under both protocols: `direct_body` true, and uvicorn's own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from tests.contract.run_batches import ARROW, JSON, batch_of
from tests.contract.test_errors import SAFETENSORS
from tests.live.connection import (
    H2C_OFFER,
    LARGE,
    SMALL,
    WEBSOCKET_OFFER,
    Connection,
    LossBody,
    chunked_request,
    loss_headers,
    reply_to_http10,
    request,
)
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.test_operations import held_requests

MB = 1_000_000
PROTOCOLS = {"direct": "true", "stock": "false"}
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module", params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(protocol: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp(protocol)
    with running_server(folder, direct_body=PROTOCOLS[protocol], processes="1") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as connected:
        yield connected


@pytest.fixture(scope="module")
def strict_server(protocol: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service that accepts bodies of up to 1 MB that arrive within half a second."""
    limits = {"max_body_bytes": str(MB), "max_queued_bytes": str(MB), "body_timeout_s": "0.5"}
    folder = tmp_path_factory.mktemp(f"strict-{protocol}")
    with running_server(folder, direct_body=PROTOCOLS[protocol], processes="1", **limits) as running:
        yield running


@pytest.fixture(scope="module")
def runs(server: ServerProcess) -> None:
    """A run whose export has more than a MiB, and a small one."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for name, rows in ("large", 20_000), ("small", 3):
            client.put(f"/runs/{name}", json={}).raise_for_status()
            client.put(f"/runs/{name}/epochs/0/batches/0", json=batch_of(rows)).raise_for_status()


@pytest.fixture
def ignores_upgrades(protocol: str) -> None:
    if protocol == "stock":
        pytest.skip("uvicorn's own protocol loses the body of a request that offers an upgrade")


@pytest.fixture
def answers_half_closed(protocol: str) -> None:
    if protocol == "stock":
        pytest.skip("uvicorn's own protocol closes the connection of a client that has closed its sending side")


class TestBodies:
    @pytest.mark.parametrize(
        "cuts",
        [
            [10],
            [len(request(LARGE.content)) - len(LARGE.content)],
            [len(request(LARGE.content)) - len(LARGE.content) + 1],
            [-1],
            [-3, -2, -1],
            [16 * 1024, 16 * 1024 + 1],
            [256 * 1024, 1024 * 1024],
        ],
    )
    def test_cut_anywhere(self, server: ServerProcess, cuts: list[int]) -> None:
        sent = request(LARGE.content)
        with Connection(server) as connection:
            for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                connection.send(sent[start:end])
            connection.check(LARGE)

    def test_large_and_small_in_turn_on_one_connection(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            for body in (LARGE, SMALL, LARGE, LARGE, SMALL, SMALL, LARGE):
                connection.send(request(body.content))
                connection.check(body)

    @pytest.mark.parametrize("make", [request, chunked_request])
    @pytest.mark.parametrize("bodies", [(LARGE, SMALL), (SMALL, LARGE, SMALL), (LARGE, LARGE)])
    def test_the_next_request_directly_after_a_body(
        self, server: ServerProcess, make: Any, bodies: tuple[LossBody, ...]
    ) -> None:
        with Connection(server) as connection:
            sent = b"".join(make(body.content) for body in bodies)
            sender = threading.Thread(target=connection.send, args=(sent,))
            sender.start()
            for body in bodies:
                connection.check(body)
            sender.join(60)

    def test_bodies_of_two_clients_do_not_mix(self, server: ServerProcess) -> None:
        bodies = [LossBody.of(100_000, seed=seed) for seed in (1, 2)]
        sent = [request(body.content) for body in bodies]
        step = 100_000
        with Connection(server) as one, Connection(server) as other:
            for _ in range(3):
                for start in range(0, len(sent[0]), step):
                    for connection, whole in zip((one, other), sent, strict=True):
                        connection.send(whole[start : start + step])
                for connection, body in zip((one, other), bodies, strict=True):
                    connection.check(body)

    def test_a_client_that_waits_to_continue(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            for body in (LARGE, SMALL):
                connection.send(loss_headers(f"Content-Length: {len(body.content)}", "Expect: 100-continue"))
                assert connection.reply() == (100, b"")
                connection.send(body.content)
                connection.check(body)

    def test_chunks_of_a_large_body(self, client: httpx.Client) -> None:
        parts = iter(LARGE.content[start : start + 70_000] for start in range(0, len(LARGE.content), 70_000))
        LARGE.check(client.post("/loss", content=parts, headers=SAFETENSORS).content)

    def test_a_client_that_leaves_in_the_middle(self, server: ServerProcess, client: httpx.Client) -> None:
        sent = request(LARGE.content)
        for size in (len(sent) - len(LARGE.content), 20_000, len(sent) // 2, len(sent) - 1):
            with Connection(server) as connection:
                connection.send(sent[:size])
                wait_for(lambda: held_requests(client) == 1, "the request is held")
            wait_for(lambda: held_requests(client) == 0, "its place is free")
        assert client.post("/loss", content=LARGE.content, headers=SAFETENSORS).status_code == 200

    @pytest.mark.parametrize("make", [request, chunked_request])
    @pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
    def test_a_client_that_sends_less_than_it_announced(
        self, server: ServerProcess, client: httpx.Client, make: Any, body: LossBody
    ) -> None:
        with Connection(server) as connection:
            connection.send(make(body.content)[:-1])
            connection.shut_down()
            assert connection.at_end()
        wait_for(lambda: held_requests(client) == 0, "its place is free")

    def test_a_body_that_stops_arriving(self, strict_server: ServerProcess) -> None:
        with Connection(strict_server) as connection:
            connection.send(loss_headers(f"Content-Length: {MB}") + bytes(MB // 2))
            status, content = connection.reply()
            assert (status, json.loads(content)["code"]) == (408, "body_timeout")
            assert connection.at_end()
        with httpx.Client(base_url=strict_server.url) as client:
            assert held_requests(client) == 0
            SMALL.check(client.post("/loss", content=SMALL.content, headers=SAFETENSORS).content)

    def test_a_body_over_the_limit(self, strict_server: ServerProcess) -> None:
        with Connection(strict_server) as connection:
            before = strict_server.memory_bytes()
            connection.send(loss_headers(f"Content-Length: {40 * MB}"))
            status, content = connection.reply()
            assert (status, json.loads(content)["code"]) == (413, "body_too_large")
            # The client sends the body nevertheless, and the connection remains usable after it.
            for _ in range(40):
                connection.send(bytes(MB))
            connection.send(request(SMALL.content))
            connection.check(SMALL)
            assert strict_server.memory_bytes() - before < 20 * MB

    def test_a_body_that_is_arriving_at_sigterm_is_answered(self, protocol: str, tmp_path: Path) -> None:
        settings = {"direct_body": PROTOCOLS[protocol], "processes": "1", "drain_delay_s": "0"}
        with running_server(tmp_path, **settings) as server, Connection(server) as connection:
            sent = request(LARGE.content)
            connection.send(sent[: 2 * MB])
            with httpx.Client(base_url=server.url) as client:
                wait_for(lambda: held_requests(client) == 1, "the request is held")
            server.process.send_signal(signal.SIGTERM)

            wait_for(server.refuses_connections, "new connections are refused")
            connection.send(sent[2 * MB :])
            connection.check(LARGE)
            assert connection.at_end()
            assert server.process.wait(30) == 0


class TestUpgrades:
    """The service ignores an offered upgrade (RFC 9110, 7.8)."""

    @pytest.mark.parametrize("offer", [H2C_OFFER, WEBSOCKET_OFFER], ids=["h2c", "websocket"])
    @pytest.mark.parametrize("make", [request, chunked_request])
    @pytest.mark.usefixtures("ignores_upgrades")
    def test_a_body_after_the_offer(self, server: ServerProcess, offer: tuple[str, ...], make: Any) -> None:
        with Connection(server) as connection:
            for body in (SMALL, LARGE, SMALL):
                sent = make(body.content, *offer)
                connection.send(sent[:50])
                connection.send(sent[50:])
                connection.check(body)
            connection.send(make(SMALL.content, *offer) + request(SMALL.content))
            connection.check(SMALL)
            connection.check(SMALL)

    @pytest.mark.usefixtures("ignores_upgrades")
    def test_requests_inside_a_body_are_not_answered(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            for make in (request, chunked_request):
                connection.send(make(GET * 10, *H2C_OFFER) + request(SMALL.content))
                status, content = connection.reply()
                assert (status, json.loads(content)["code"]) == (400, "malformed_body")
                connection.check(SMALL)

    def test_a_request_without_a_body(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            for _ in range(2):
                connection.send(GET.replace(b"Host: localhost", "\r\n".join(["Host: localhost", *H2C_OFFER]).encode()))
                status, content = connection.reply()
                assert (status, json.loads(content)["alive"]) == (200, True)

    @pytest.mark.usefixtures("ignores_upgrades")
    def test_a_client_that_waits_to_continue(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            headers = (f"Content-Length: {len(LARGE.content)}", "Expect: 100-continue")
            connection.send(loss_headers(*headers, *H2C_OFFER))
            assert connection.reply() == (100, b"")
            connection.send(LARGE.content)
            connection.check(LARGE)

    @pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("framing", [(), ("--header", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
    @pytest.mark.usefixtures("ignores_upgrades")
    def test_curl_http2(self, server: ServerProcess, body: LossBody, framing: tuple[str, ...], tmp_path: Path) -> None:
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("curl is not installed")
        if b"HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout:
            pytest.skip("this curl does not support HTTP/2")
        (tmp_path / "body").write_bytes(body.content)
        command = [curl, "--silent", "--fail", "--http2", "--data-binary", f"@{tmp_path / 'body'}", *framing]
        command += ["--header", f"Content-Type: {SAFETENSORS['Content-Type']}", "--max-time", "60"]
        # Two requests on one connection.
        outputs = ["--output", str(tmp_path / "0"), "--output", str(tmp_path / "1")]
        subprocess.run([*command, *outputs, f"{server.url}/loss", f"{server.url}/loss"], check=True)
        for name in "01":
            body.check((tmp_path / name).read_bytes())


@pytest.mark.usefixtures("answers_half_closed")
class TestHalfClosed:
    """A client that closes its sending side still reads the replies."""

    @pytest.mark.parametrize("make", [request, chunked_request])
    @pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
    def test_its_request_is_answered(self, server: ServerProcess, make: Any, body: LossBody) -> None:
        with Connection(server) as connection:
            connection.send(make(body.content))
            connection.shut_down()
            connection.check(body)
            assert connection.at_end()

    def test_all_of_its_requests_are_answered(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            connection.send(request(SMALL.content) + chunked_request(LARGE.content, *H2C_OFFER) + GET)
            connection.shut_down()
            connection.check(SMALL)
            connection.check(LARGE)
            assert connection.reply()[0] == 200
            assert connection.at_end()

    def test_half_a_request_is_not_answered(self, server: ServerProcess) -> None:
        with Connection(server) as connection:
            connection.send(request(SMALL.content) + request(SMALL.content)[:30])
            connection.shut_down()
            connection.check(SMALL)
            assert connection.at_end()


class TestHttp10:
    """HTTP/1.0 clients do not support chunks (RFC 9112, 6.1); they get the same bytes as HTTP/1.1 clients."""

    def check(self, server: ServerProcess, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The body of the reply; checks its length, and that it equals the reply over HTTP/1.1."""
        named = {"accept-encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
        later = httpx.request(method, f"{server.url}{path}", content=body, headers=named, timeout=60)
        status, headers_10, content = reply_to_http10(server, method, path, body, named)
        assert status == later.status_code
        assert "transfer-encoding" not in headers_10
        assert int(headers_10["content-length"]) == len(content)
        assert headers_10["connection"] == "close"
        different = {"date", "x-request-id", "server-timing", "content-length", "transfer-encoding", "connection"}
        assert headers_10.keys() - different == later.headers.keys() - different
        assert content == later.content
        return bytes(content)

    @staticmethod
    def arrow(rows: int, targets: int = 0) -> bytes:
        sink = pa.BufferOutputStream()
        logits = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * rows, np.float32)), 2)
        table = pa.table({"logits": logits, "targets": np.full(rows, targets)})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=10_000)
        return bytes(sink.getvalue())

    @pytest.mark.parametrize("rows", [1, 300_000])
    def test_an_arrow_stream(self, server: ServerProcess, rows: int) -> None:
        content = self.check(server, "POST", "/loss", self.arrow(rows), content_type=ARROW, accept=ARROW)
        assert pa.ipc.open_stream(content).read_all().num_rows == rows
        assert len(content) > (1 << 20 if rows > 1 else 0)

    def test_an_arrow_stream_with_an_error(self, server: ServerProcess) -> None:
        content = self.check(server, "POST", "/loss", self.arrow(1, targets=2), content_type=ARROW)
        assert json.loads(content)["code"] == "invalid_target"

    @pytest.mark.parametrize("format_name", ["csv", "jsonl", "parquet", "label-studio", "argilla", "fiftyone"])
    @pytest.mark.usefixtures("runs")
    def test_an_export(self, server: ServerProcess, format_name: str) -> None:
        self.check(server, "GET", f"/runs/small/export?format={format_name}")

    @pytest.mark.parametrize("format_name", ["csv", "jsonl"])
    @pytest.mark.usefixtures("runs")
    def test_a_large_export(self, server: ServerProcess, format_name: str) -> None:
        content = self.check(server, "GET", f"/runs/large/export?format={format_name}")
        assert len(content) > 1 << 20

    @pytest.mark.parametrize("name", ["small", "large"])
    @pytest.mark.usefixtures("runs")
    @pytest.mark.parametrize(
        "accept", [JSON, "text/csv", "application/x-ndjson", "application/vnd.apache.parquet", ARROW]
    )
    def test_examples(self, server: ServerProcess, name: str, accept: str) -> None:
        self.check(server, "GET", f"/runs/{name}/examples?limit=1000", accept=accept)

    @pytest.mark.parametrize(
        "path", ["/", "/healthz", "/runs", "/openapi.json", "/docs", "/docs/assets/swagger-ui.css"]
    )
    def test_pages_and_files(self, server: ServerProcess, path: str) -> None:
        self.check(server, "GET", path)

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/nowhere", 404), ("DELETE", "/loss", 405), ("POST", "/loss", 415), ("GET", "/runs/none/export", 404)],
    )
    def test_errors(self, server: ServerProcess, method: str, path: str, status: int) -> None:
        assert json.loads(self.check(server, method, path))["status"] == status
