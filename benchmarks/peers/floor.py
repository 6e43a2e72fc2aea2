"""The floor: a bare ASGI app on uvicorn that reads the body and replies with two bytes."""

from __future__ import annotations

from typing import Any

import uvicorn

from benchmarks.peers.arguments import port


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the whole body, as every server that computes with it must, without a copy."""
    if scope["type"] != "http":
        return
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


if __name__ == "__main__":
    uvicorn.run(app, port=port(), lifespan="off", access_log=False, server_header=False, ws="none", log_level="warning")
