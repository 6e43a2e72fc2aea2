from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.contract.run_batches import JSON, SAFETENSORS, batch_of, encoded
from tests.live.server_process import ServerProcess, running_server

ROUNDS = 2
CLIENTS = 4
ROWS = 7
BATCHES_OF_A_ROUND = 150


def send(client: httpx.Client, number: int) -> int | None:
    """Put a batch, and return the status of the reply, or None without a reply."""
    content, headers = encoded(batch_of(ROWS, seed=number), SAFETENSORS), {"Content-Type": SAFETENSORS, "Accept": JSON}
    try:
        return client.put(f"/runs/r/epochs/0/batches/{number}", content=content, headers=headers).status_code
    except httpx.TransportError:
        return None


def send_until_killed(server: ServerProcess, numbers: list[int], kill_after: int) -> set[int]:
    """Send batches from several clients, and kill the process after this number of acknowledgements."""
    acknowledged: set[int] = set()

    def work(numbers: list[int]) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for number in numbers:
                status = send(client, number)
                if status is None:
                    return
                assert status in (200, 201)
                acknowledged.add(number)
                if len(acknowledged) >= kill_after:
                    server.process.kill()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, [numbers[first::CLIENTS] for first in range(CLIENTS)]))
    return acknowledged


def test_every_batch_that_was_acknowledged_survives_sigkill_once(tmp_path: Path) -> None:
    rng, acknowledged, folder = random.Random(0), set[int](), str(tmp_path / "data")
    for number in range(ROUNDS):
        with running_server(tmp_path, data_dir=folder) as server:
            httpx.put(f"{server.url}/runs/r", json={}).raise_for_status()
            first = number * BATCHES_OF_A_ROUND
            acknowledged |= send_until_killed(
                server, list(range(first, first + BATCHES_OF_A_ROUND)), rng.randint(20, 100)
            )
            assert server.process.wait(30) == -9

    with (
        running_server(tmp_path, data_dir=folder) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        ids, cursor = [], None
        while True:
            query = {"limit": 1000, "sort": "id"} | ({"cursor": cursor} if cursor else {})
            page = client.get("/runs/r/examples", params=query).json()
            ids += [row["id"] for row in page["rows"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(ids) == len(set(ids)), "a row is stored twice"
        stored = {int(example_id.partition("-")[0]) for example_id in ids}
        assert acknowledged <= stored
        assert set(ids) == {example_id for number in stored for example_id in batch_of(ROWS, seed=number)["ids"]}, (
            "a batch is stored in part"
        )
        for number in sorted(stored):
            assert send(client, number) == 200
        assert client.get("/runs/r").json()["num_rows"] == len(ids)
