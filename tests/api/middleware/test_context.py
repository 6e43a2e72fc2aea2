"""Unexpected exceptions become a problem reply without their text, and `/loss` bypasses the framework's router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from service.api.app import create_app
from service.settings import Settings
from tests.lanes import mostly_slow


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [(RuntimeError("logits 123.456"), 500, "internal_error"), (MemoryError("logits 123.456"), 503, "out_of_memory")],
)
def test_an_unexpected_exception_is_a_problem_without_its_text(raised: Exception, status: int, code: str) -> None:
    app = create_app(Settings(device="cpu"))

    @app.get("/fails")
    async def fails() -> None:
        raise raised

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            return await client.get("/fails", headers={"X-Request-ID": "looked-for"})

    with capture_logs() as logs:
        reply = asyncio.run(get())
    app.state.service.close()
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == "looked-for"
    assert "123.456" not in reply.text
    assert "123.456" not in str(logs)
    assert logs[-1]["code"] == code
    unexpected = [line for line in logs if line["event"] == "unexpected error"]
    assert [line["error"] for line in unexpected] == (["RuntimeError"] if status == 500 else [])
    assert all("test_context.py" in line["traceback"] for line in unexpected)


class TestDirectRoute:
    """`POST /loss` bypasses the framework's middleware and router; all other requests go through them."""

    @pytest.fixture
    def send(self, tmp_path: Path) -> Iterator[Callable[..., httpx.Response]]:
        app = create_app(Settings(device="cpu", data_dir=str(tmp_path)))

        def send_request(method: str, path: str, *, root_path: str = "", **more: Any) -> httpx.Response:
            async def request() -> httpx.Response:
                transport = httpx.ASGITransport(app=app, root_path=root_path)
                async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                    return await client.request(method, path, **more)

            return asyncio.run(request())

        yield send_request
        app.state.service.close()
        app.state.service.runs.close()

    @pytest.mark.parametrize(
        ("method", "path", "status", "route"),
        mostly_slow(
            [
                ("POST", "/loss", 200, "/loss"),
                ("POST", "/loss?top_k=1", 200, "/loss"),
                ("GET", "/loss", 405, "/loss"),
                ("POST", "/loss/x", 404, "unknown"),
                ("POST", "/lossy", 404, "unknown"),
            ],
            quick=2,
        ),
    )
    def test_status_and_metrics_of_requests_by_path(
        self, send: Callable[..., httpx.Response], method: str, path: str, status: int, route: str
    ) -> None:
        reply = send(method, path, json={"logits": [[1, 2], [3, 4]], "targets": [0, 1]})
        assert reply.status_code == status
        assert ("code" in reply.json()) == (status != 200)
        counted = f'focal_loss_requests_total{{method="{method}",route="{route}",status="{status}"}} 1.0'
        assert counted in send("GET", "/metrics").text

    def test_under_a_prefix_the_framework_finds_the_route(self, send: Callable[..., httpx.Response]) -> None:
        content = {"logits": [[1, 2], [3, 4]], "targets": [0, 1]}
        assert send("POST", "/prefix/loss", root_path="/prefix", json=content).status_code == 200

    def test_the_first_of_repeated_headers_counts(self, send: Callable[..., httpx.Response]) -> None:
        headers = [("Content-Type", "application/json"), ("Content-Type", "text/nonsense")]
        content = b'{"logits": [[1, 2]], "targets": [0]}'
        assert send("POST", "/loss", content=content, headers=headers).status_code == 200
        assert send("POST", "/loss", content=content, headers=headers[::-1]).status_code == 415

    def test_errors_of_the_direct_route_are_problems(self, send: Callable[..., httpx.Response]) -> None:
        reply = send("POST", "/loss", json={"logits": [[1, 2]], "targets": [5]}, headers={"X-Request-ID": "mine"})
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_target")
        assert reply.headers["x-request-id"] == "mine"
