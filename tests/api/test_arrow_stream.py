"""The pace of a stream: a batch has to arrive at the least rate, and between batches the client may pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.api.admission import Admission
from service.api.arrow_stream import _Connection
from service.api.http import pace
from service.errors import BodyTimeoutError

GRACE_S = 0.05


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GRACE_S", GRACE_S)


def read(batches: int, batch_bytes: int, *, rate: int, byte_s: float, pause_s: float = 0.0) -> None:
    """Read batches from a client that sends a byte every `byte_s` and pauses before each batch."""

    async def test() -> None:
        sent = 0

        async def receive() -> Any:
            nonlocal sent
            await asyncio.sleep(byte_s if sent % batch_bytes else pause_s)
            sent += 1
            return {"type": "http.request", "body": b"x", "more_body": sent < batches * batch_bytes}

        async with Admission(1, 10_000, 1).place() as place:
            connection = _Connection(asyncio.get_running_loop(), receive, receive, 60, rate, place)

            def work() -> None:
                for _ in range(batches):
                    assert len(connection.read(batch_bytes)) == batch_bytes
                    connection.release()

            await asyncio.to_thread(work)

    asyncio.run(test())


@pytest.mark.parametrize(("rate", "is_slow"), [(1_000_000, True), (1, False), (0, False)])
@pytest.mark.slow
def test_a_batch_that_trickles(rate: int, is_slow: bool) -> None:
    if is_slow:
        with pytest.raises(BodyTimeoutError, match=r"1000000 bytes/s \(min_bytes_per_s\)"):
            read(1, 100, rate=rate, byte_s=GRACE_S / 20)
    else:
        read(1, 100, rate=rate, byte_s=GRACE_S / 20)


@pytest.mark.slow
def test_pauses_between_batches_do_not_count() -> None:
    # Without the pause, the bytes may take GRACE_S + 1 / rate; with it, GRACE_S + 2 / rate would be too little.
    read(2, 2, rate=5, byte_s=0.0, pause_s=GRACE_S + 0.45)
