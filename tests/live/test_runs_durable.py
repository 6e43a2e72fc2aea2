"""`kill -9` in the middle of writing: nothing acknowledged is lost, and the next start deletes what is left over."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import httpx

from service.storage.local_files import STAGED, STAGED_MAX_AGE_S
from tests.contract.run_batches import JSON, SAFETENSORS, batch_of, encoded
from tests.live.server_process import ServerProcess, running_server, wait_for

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


def staged(server: ServerProcess) -> list[Path]:
    """The temporary files of writes in progress."""
    return list(server.data_dir.rglob(f"{STAGED}*"))


def kill_in_a_write(server: ServerProcess) -> None:
    """Kill the process while it writes a file."""
    threads = Path(f"/proc/{server.process.pid}/task")

    def is_stopped() -> bool:
        # A thread may end meanwhile.
        with suppress(OSError):
            return all(stat.read_text().rpartition(") ")[2][0] == "T" for stat in threads.glob("*/stat"))
        return False

    def is_stopped_in_a_write() -> bool:
        if not staged(server):
            return False
        server.process.send_signal(signal.SIGSTOP)
        wait_for(is_stopped, "the process is stopped")
        if staged(server):
            return True
        server.process.send_signal(signal.SIGCONT)
        return False

    wait_for(is_stopped_in_a_write, "a file is being written")
    server.process.kill()


def leave_over(server: ServerProcess) -> tuple[Path, Path, Path]:
    """A temporary file of the killed process, which is made old, a young copy of it, and its temporary folder."""
    old = staged(server)[0]
    young = Path(shutil.copy(old, old.with_name(f"{STAGED}young")))
    an_hour_ago = time.time() - STAGED_MAX_AGE_S - 1
    os.utime(old, (an_hour_ago, an_hour_ago))
    (temporary,) = server.data_dir.glob("temporary/*")
    (temporary / "export-cut-off").touch()
    return old, young, temporary


def check_sweep(server: ServerProcess, old: Path, young: Path, temporary: Path) -> None:
    """Check that only leftovers of dead processes are deleted; another service may be writing a young file."""
    wait_for(lambda: not old.exists() and not temporary.exists(), "leftovers are deleted")
    assert young.exists()
    young.unlink()


def send_until_killed(server: ServerProcess, numbers: list[int], kill_after: int) -> set[int]:
    """Send batches from several clients, and kill the process after this number of acknowledgements."""
    acknowledged: set[int] = set()
    is_first = Lock()

    def work(numbers: list[int]) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for number in numbers:
                status = send(client, number)
                if status is None:
                    return
                assert status in (200, 201)
                acknowledged.add(number)
                if len(acknowledged) >= kill_after and is_first.acquire(blocking=False):
                    kill_in_a_write(server)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, [numbers[first::CLIENTS] for first in range(CLIENTS)]))
    return acknowledged


def test_every_batch_that_was_acknowledged_survives_sigkill_once(tmp_path: Path) -> None:
    rng, acknowledged, folder = random.Random(0), set[int](), str(tmp_path / "data")
    left_over: tuple[Path, ...] = ()
    for number in range(ROUNDS):
        with running_server(tmp_path, data_dir=folder) as server:
            if left_over:
                check_sweep(server, *left_over)
            httpx.put(f"{server.url}/runs/r", json={}).raise_for_status()
            # The first query creates the temporary folder of the process.
            httpx.get(f"{server.url}/runs/r/examples").raise_for_status()
            first = number * BATCHES_OF_A_ROUND
            acknowledged |= send_until_killed(
                server, list(range(first, first + BATCHES_OF_A_ROUND)), rng.randint(20, 100)
            )
            assert server.process.wait(30) == -9
            left_over = leave_over(server)

    with (
        running_server(tmp_path, data_dir=folder) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        check_sweep(server, *left_over)
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
