"""Files of runs that are damaged, repaired and replaced while a service uses them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from service.storage.compaction import MERGED_AT_ONCE
from service.storage.files import open_files
from tests.cli import command
from tests.damage.damaged_runs import HEALTHY, DamagedRuns, batch, filled_runs
from tests.damage.test_one_damaged_file import different, flipped
from tests.live.server_process import ServerProcess, running_server, wait_for

FLIPS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("damage")) as running:
        yield running


@pytest.fixture(scope="module")
def runs(server: ServerProcess) -> Iterator[DamagedRuns]:
    with filled_runs(server.data_dir, httpx.AsyncClient(base_url=server.url, timeout=60)) as runs:
        yield runs


def test_flipped_bits_in_files_that_are_in_use(runs: DamagedRuns) -> None:
    rng = random.Random(0)
    for kind in different(runs):
        content = runs.content(kind)
        for _ in range(FLIPS):
            content = flipped(content, rng.randrange(len(content)), rng.randrange(8))
        runs.check(kind, content, in_use=True)
    assert runs.outcomes["named"] > 0


def test_a_run_is_verified_and_repaired_beside_the_service(server: ServerProcess, runs: DamagedRuns) -> None:
    def verify(run: str, *options: str, status: int) -> list[dict[str, str | bool]]:
        ended = command.run("verify", run, "--json", *options, data_dir=str(server.data_dir))
        assert ended.returncode == status, ended.stderr
        findings: list[dict[str, str | bool]] = json.loads(ended.stdout)["findings"]
        return findings

    (file,) = [kind for kind in runs.kinds() if kind.endswith("1/batch-b0.parquet")]
    with runs.copy() as copy:
        run = f"/runs/{copy.name}"
        assert runs.request("GET", f"{run}/diagnostics").json()["num_examples"] == 16
        (copy / file).write_bytes(random.Random(0).randbytes(len(runs.content(file))))
        assert [finding["file"] for finding in verify(copy.name, status=1)] == [file]
        reply = runs.request("GET", f"{run}/diagnostics?gamma=1")
        assert (reply.status_code, reply.json()["code"]) == (409, "run_damaged")

        assert [finding["repaired"] for finding in verify(copy.name, "--repair", status=0)] == [True]
        assert runs.request("GET", f"{run}/diagnostics").json()["num_examples"] == 12
        assert runs.request("PUT", f"{run}/epochs/1/batches/b0", json=batch(0, 1)).status_code == 201
        assert runs.request("GET", f"{run}/diagnostics").json()["num_examples"] == 16
        assert verify(copy.name, status=0) == verify(HEALTHY, status=0) == []


def test_replaced_files_live_while_they_are_read(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.put("/runs/merging", json={}).raise_for_status()
        (folder,) = [path for path in (server.data_dir / "runs" / "merging").iterdir() if path.is_dir()]
        epoch, numbers = folder / "epochs" / "0", count()

        def push() -> None:
            number = next(numbers)
            path = f"/runs/merging/epochs/0/batches/{number}"
            client.put(path, json=batch(number, 0)).raise_for_status()

        # Another process that reads the run.
        with open_files(str(server.data_dir)).reading(f"runs/merging/{folder.name}"):
            # The second merge begins with the files that the first one has replaced.
            for merge in (1, 2):
                for _ in range(MERGED_AT_ONCE):
                    push()
                wait_for(lambda merge=merge: len(list(epoch.glob("level1-*"))) == merge, "files are merged")
            replaced = set(epoch.glob("batch-*"))
            assert len(replaced) == 2 * MERGED_AT_ONCE

        def are_deleted() -> bool:
            # A merge deletes them, unless a request reads the run at that moment.
            push()
            return replaced.isdisjoint(epoch.iterdir())

        wait_for(are_deleted, "replaced files are deleted")
        assert client.get("/runs/merging").json()["num_rows"] == next(numbers) * len(batch(0, 0)["ids"])
