"""Contract section 6 over a real connection: health, metrics, documentation, keys, limits, logs and shutdown."""

from __future__ import annotations

import base64
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from tests.contract.test_errors import SAFETENSORS, check_problem
from tests.live.server_process import ServerProcess, running_server, service_environment, wait_for

KEY, OTHER_KEY = "a-long-enough-key-1", "a-long-enough-key-2"
ROWS = {"logits": [[1, 2], [3, 4]], "targets": [0, 1]}


def half_sent(server: ServerProcess, content_length: int, sent: bytes = b"{") -> socket.socket:
    """A connection that has sent the headers of a loss request and the beginning of its body."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    begin(connection, content_length, sent)
    return connection


def begin(connection: socket.socket, content_length: int, sent: bytes) -> None:
    """Send the headers of a loss request and the beginning of its body."""
    lines = ["POST /loss HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {content_length}", "", ""])
    connection.sendall(head.encode() + sent)


def read_reply(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON body of the next reply on a connection."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = dict(iter(lambda: file.readline().decode().strip().lower().partition(": ")[::2], ("", "")))
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def gauge(client: httpx.Client, name: str) -> float:
    """Value of a gauge of the service."""
    match = re.search(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert match
    return float(match[1])


def held_requests(client: httpx.Client) -> float:
    return gauge(client, "focal_loss_requests_held")


def held_bytes(client: httpx.Client) -> float:
    return gauge(client, "focal_loss_request_bytes_held")


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/healthz").json()["alive"] is True
    ready = client.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["device"] in ("cpu", "cuda:0")
    assert client.post("/loss", json=ROWS).json()["device"] == ready["device"]


def test_metrics_count_requests_examples_and_batches(client: httpx.Client) -> None:
    def value(name: str) -> float:
        match = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    served = 'focal_loss_requests_total{method="POST",route="/loss",status="200"}'
    refused = 'focal_loss_requests_total{method="POST",route="/loss",status="422"}'
    counted, batches = 'focal_loss_examples_total{kind="counted"}', "focal_loss_batches_total"
    before = [value(name) for name in (served, refused, counted, batches)]
    client.post("/loss", json=ROWS)
    client.post("/loss", json=ROWS | {"targets": [0, 9]})
    after = [value(name) for name in (served, refused, counted, batches)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 2, 1]
    assert value("focal_loss_configs_held") >= 1
    text = client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    for phase in ("receive", "queue", "decode", "compute", "encode"):
        assert f'focal_loss_phase_duration_seconds_count{{phase="{phase}"}}' in text.text


def test_openapi_examples_are_real(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operation = document["paths"]["/loss"]["post"]
    bodies = operation["requestBody"]["content"]
    answer = operation["responses"]["200"]["content"]["application/json"]["examples"]["contract"]["value"]
    for example in bodies["application/json"]["examples"].values():
        assert client.post("/loss", json=example["value"]).status_code == 200
    reply_body = client.post("/loss", json=bodies["application/json"]["examples"]["contract"]["value"]).json()
    assert reply_body.keys() == answer.keys()
    assert reply_body["config_id"] == answer["config_id"]
    assert reply_body["loss"] == pytest.approx(answer["loss"], abs=1e-7)
    for name, values in answer["batches"][0]["per_example"].items():
        assert reply_body["batches"][0]["per_example"][name] == pytest.approx(values, abs=1e-7)
    binary = base64.b64decode(bodies["application/x-safetensors"]["examples"]["contract"]["value"])
    reply = client.post("/loss", content=binary, headers=SAFETENSORS)
    assert load(reply.content)["loss"] == pytest.approx(answer["loss"], rel=1e-6)
    stream = base64.b64decode(bodies["application/vnd.apache.arrow.stream"]["examples"]["contract"]["value"])
    arrow = client.post("/loss", content=stream, headers={"Content-Type": "application/vnd.apache.arrow.stream"})
    assert pa.ipc.open_stream(arrow.content).read_all()["p_t"].to_pylist() == pytest.approx([0.8337810, 0.2427819])
    for example in document["paths"]["/configs"]["put"]["requestBody"]["content"]["application/json"][
        "examples"
    ].values():
        assert client.put("/configs", json=example["value"]).is_success
    problem = operation["responses"]["422"]["content"]["application/problem+json"]["examples"]["target"]["value"]
    targets = [0] * 17 + [12]
    assert client.post("/loss", json={"logits": [[0.0] * 10] * 18, "targets": targets}).json() == problem


def test_openapi_references_resolve(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    document = json.loads(text)
    for name in set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"]


def test_docs_load_from_this_service_only(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) >= 3
    for asset in assets:
        # Relative, for a service under a path prefix.
        assert asset.startswith("docs/assets/")
        assert client.get(f"/{asset}").status_code == 200
    assert not re.search(r"https?://", page.text)


def test_keys_are_required_on_every_path_but_health(tmp_path: Path) -> None:
    with running_server(tmp_path, api_keys=f"{KEY},{OTHER_KEY}") as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        for path in ("/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/metrics", "/configs", "/nowhere"):
            reply = client.get(path)
            check_problem(reply, 401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer"
        wrong = [KEY[:-1], KEY + "x", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", f"bearer{KEY}", "Bearer ü"]
        for value in wrong:
            reply = client.post("/loss", json=ROWS, headers={"Authorization": value.encode()})
            check_problem(reply, 401, "unauthorized")
        for key in (KEY, OTHER_KEY):
            assert client.post("/loss", json=ROWS, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        schema = client.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()
        assert schema["security"] == [{"key": []}, {"password": []}]
    assert KEY not in server.log_path.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_keys_only_loopback_is_served(host: str) -> None:
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--host", host]
    ended = subprocess.run(command, capture_output=True, text=True, env=service_environment(), timeout=60, check=False)
    assert ended.returncode == 2
    assert "api_keys" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    limits = ("--max-body-bytes", "1000", "--max-queued-bytes", "5000")
    with running_server(tmp_path, *limits) as server, httpx.Client(base_url=server.url) as client:
        with half_sent(server, 1001, sent=b"") as connection:
            status, _, problem = read_reply(connection)
            assert (status, problem["code"]) == (413, "body_too_large")
            assert "1000" in problem["detail"]
        check_problem(client.post("/loss", json=ROWS | {"ids": ["x" * 2000, "y"]}), 413, "body_too_large")
        chunked = client.post(
            "/loss", content=iter([b" " * 600, b" " * 600]), headers={"Content-Type": "application/json"}
        )
        check_problem(chunked, 413, "body_too_large")
        whole = client.post(
            "/loss", content=iter([json.dumps(ROWS).encode()]), headers={"Content-Type": "application/json"}
        )
        assert whole.status_code == 200


def test_too_many_elements_or_examples_are_413(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, max_elements="100", max_examples="15") as server,
        httpx.Client(base_url=server.url) as client,
    ):

        def post(*shapes: tuple[int, int]) -> httpx.Response:
            tensors: dict[str, Any] = {}
            for number, (rows, classes) in enumerate(shapes):
                tensors |= {f"logits.{number}": np.zeros((rows, classes), np.float32)}
                tensors |= {f"targets.{number}": np.zeros(rows, np.int64)}
            return client.post("/loss", content=save(tensors), headers=SAFETENSORS)

        assert post((10, 10), (5, 20)).status_code == 200
        problem = check_problem(post((1, 2), (10, 11)), 413, "too_many_elements")
        assert "batch 1 has 110 logits" in problem["detail"]
        check_problem(post((10, 2), (6, 2)), 413, "too_many_examples")


def test_a_full_queue_is_429_with_retry_after_and_frees_itself(tmp_path: Path) -> None:
    with running_server(tmp_path, queue_size="2", processes="1") as server, httpx.Client(base_url=server.url) as client:
        content = json.dumps(ROWS).encode()
        held = [half_sent(server, len(content)) for _ in range(2)]
        wait_for(lambda: held_requests(client) == 2, "two requests held")
        reply = client.post("/loss", json=ROWS)
        check_problem(reply, 429, "queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/readyz").status_code == 200
        held[0].sendall(content[1:])
        assert read_reply(held[0])[0] == 200
        assert client.post("/loss", json=ROWS).status_code == 200
        # A client that leaves frees its place.
        for connection in held:
            connection.close()
        wait_for(lambda: held_requests(client) == 0, "the places are free")


def test_held_bytes_are_bounded(tmp_path: Path) -> None:
    limits = ("--max-body-bytes", "1000", "--max-queued-bytes", "1500", "--processes", "1")
    with running_server(tmp_path, *limits) as server, httpx.Client(base_url=server.url) as client:
        with half_sent(server, 1000):
            wait_for(lambda: held_requests(client) == 1, "a request is held")
            reply = client.post("/loss", content=b" " * 501, headers={"Content-Type": "application/json"})
            check_problem(reply, 429, "queue_full")
            assert client.post("/loss", json=ROWS).status_code == 200
        wait_for(lambda: held_requests(client) == 0, "the place is free")
        large = client.post("/loss", content=b" " * 900, headers={"Content-Type": "application/json"})
        check_problem(large, 400, "malformed_body")


def test_headers_and_bodies_that_stop_arriving_time_out(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, body_timeout_s="0.3", head_timeout_s="0.3") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        with half_sent(server, 100) as connection:
            status, headers, problem = read_reply(connection)
            assert (status, problem["code"]) == (408, "body_timeout")
            assert headers["content-type"] == "application/problem+json"
        for sent in (b"", b"POST /loss HTTP/1.1\r\nHos"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(sent)
                status, _, problem = read_reply(connection)
                assert (status, problem["code"]) == (408, "head_timeout")
        assert client.post("/loss", json=ROWS).status_code == 200


def test_endless_headers_are_431_and_other_protocols_are_400(tmp_path: Path) -> None:
    with running_server(tmp_path, max_head_bytes="2048") as server, httpx.Client(base_url=server.url) as client:
        for head in (
            b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 3000,
            b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 3000 + b"\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                connection.sendall(head)
                status, headers, problem = read_reply(connection)
                assert (status, problem["code"]) == (431, "head_too_large")
                assert headers["x-request-id"]
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            status, headers, problem = read_reply(connection)
            assert (status, problem["code"]) == (400, "malformed_body")
            assert headers["content-type"] == "application/problem+json"
        assert client.get("/healthz", headers={"A": "x" * 1500}).status_code == 200
        assert client.get("/healthz", headers={"A": "x" * 2500}).status_code == 431
        # Clients of the Open Inference Protocol read the text of an error from its member `error`.
        assert "2048" in client.get("/v2/health/live", headers={"A": "x" * 2500}).json()["error"]


def test_logs_are_json_with_the_request_id_and_never_hold_data(tmp_path: Path) -> None:
    secret = 123456.789
    with running_server(tmp_path, api_keys=KEY) as server, httpx.Client(base_url=server.url) as client:
        headers = {"Authorization": f"Bearer {KEY}", "X-Request-ID": "looked-for"}
        body = {"logits": [[secret, 1], [2, 1]], "targets": [0, 1], "ids": ["private-id", "b"]}
        client.post("/loss", json=body, headers=headers).raise_for_status()
        client.post("/loss", json=body | {"targets": [0, 7654321]}, headers=headers)
        client.post("/loss", content=b'{"private-field": 1}', headers=headers | {"Content-Type": "application/json"})
    lines = [line for line in server.log() if line.get("request_id") == "looked-for"]
    assert [line["status"] for line in lines] == [200, 422, 422]
    assert [line.get("code") for line in lines] == [None, "invalid_target", "invalid_request"]
    for line in lines:
        assert (line["method"], line["path"], line["level"]) == ("POST", "/loss", "info")
        assert line["duration_ms"] > 0
    text = server.log_path.read_text()
    for private in ("123456", "7654321", "private-id", "private-field", KEY):
        assert private not in text


def test_requests_at_work_are_answered_after_sigterm(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).standard_normal((60_000, 200)).astype(np.float32)
    body = save({"logits": logits, "targets": np.zeros(len(logits), np.int64)})
    replies: list[int] = []
    with running_server(tmp_path, drain_delay_s="0") as server:

        def post() -> None:
            replies.append(httpx.post(f"{server.url}/loss", content=body, headers=SAFETENSORS, timeout=60).status_code)

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        with httpx.Client(base_url=server.url) as client:
            wait_for(lambda: held_requests(client) == 4, "four requests held")
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert replies == [200] * 4
        assert server.process.wait(30) == 0


def test_the_server_survives_abrupt_disconnects_and_many_clients(server: ServerProcess, client: httpx.Client) -> None:
    for _ in range(50):
        half_sent(server, 100_000, sent=b'{"logits": [[1').close()
    wait_for(lambda: held_requests(client) == 0, "all places are free")
    results: list[int] = []

    def work() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as own_client:
            results.extend(own_client.post("/loss", json=ROWS).status_code for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [200] * 400


def test_without_memory_it_is_503_and_the_next_request_works(tmp_path: Path) -> None:
    # One process, whose memory the test limits.
    with (
        running_server(tmp_path, processes="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        assert client.post("/loss", json=ROWS).status_code == 200
        used_bytes = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        free_bytes = 100_000_000
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used_bytes + free_bytes, resource.RLIM_INFINITY))
        logits = np.zeros((2 * free_bytes // 40, 10), np.float32)
        body = save({"logits": logits, "targets": np.zeros(len(logits), np.int64)})
        reply = client.post("/loss", content=body, headers=SAFETENSORS)
        check_problem(reply, 503, "out_of_memory")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.post("/loss", json=ROWS).status_code == 200
        assert held_requests(client) == 0


def test_kill_9_and_a_new_start(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.process.kill()
        assert server.process.wait(30) == -signal.SIGKILL
    (tmp_path / "again").mkdir()
    with running_server(tmp_path / "again") as server:
        assert httpx.post(f"{server.url}/loss", json=ROWS).status_code == 200


def test_a_port_in_use_is_an_error(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "service", "serve", "--port", str(server.port)]
    started = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, env=service_environment(), timeout=60, check=False)
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr.lower()
    assert time.monotonic() - started < 60
