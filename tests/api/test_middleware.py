"""What nobody expected: a 500 in the shape of every error, with its text neither told nor logged."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from structlog.testing import capture_logs

from service.app import create_app
from service.settings import Settings


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
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return await client.get("/fails", headers={"X-Request-ID": "looked-for"})

    with capture_logs() as logs:
        reply = asyncio.run(get())
    app.state.service.engine.close()
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == "looked-for"
    assert "123.456" not in reply.text
    assert "123.456" not in str(logs)
    assert logs[-1]["code"] == code
    unexpected = [line for line in logs if line["event"] == "unexpected error"]
    assert [line["error"] for line in unexpected] == (["RuntimeError"] if status == 500 else [])
    assert all("test_middleware.py" in line["traceback"] for line in unexpected)
