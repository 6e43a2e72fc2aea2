"""Runs are created, deleted and written at the same time, by threads of several services on one folder: no other error
than that the run is not there, or is there with other content."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from service.errors import LossServiceError
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.runs.sweep import sweep
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.runs.plain_rows import add
from tests.runs.writer import review_of

SECONDS = 1.0
DECLARED = {404, 409}


@pytest.mark.parametrize("num_services", [1, 2])
@pytest.mark.slow
def test_create_write_and_delete_at_once(tmp_path: Path, num_services: int) -> None:
    stores = [RunStore(open_files(str(tmp_path)), 10**6) for _ in range(num_services)]
    outcomes: Counter[str] = Counter()
    failures: list[BaseException] = []
    ends_at = time.monotonic() + SECONDS

    def loop(number: int) -> None:
        store, rng = stores[number % num_services], random.Random(number)
        while time.monotonic() < ends_at and not failures:
            step = STEPS[rng.randrange(len(STEPS))]
            try:
                step(store, rng)
                outcomes["done"] += 1
            except LossServiceError as err:
                outcomes[err.code] += 1
                if err.status not in DECLARED or (step is create and err.status != 409) or err.code == "run_damaged":
                    failures.append(err)
            except BaseException as err:
                failures.append(err)

    threads = [threading.Thread(target=loop, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert outcomes["done"] > 10, outcomes
    assert outcomes["unknown_run"] > 0, outcomes
    for name in stores[0].names():
        stores[0].delete(name)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []


def create(store: RunStore, rng: random.Random) -> None:
    store.create("r", RunDescription())


def delete(store: RunStore, rng: random.Random) -> None:
    store.delete("r")


def put(store: RunStore, rng: random.Random) -> None:
    add(store, "r", rng.randrange(2), rng.choice("ab"), ["x"], digest=rng.choice("de"))


def delete_epoch(store: RunStore, rng: random.Random) -> None:
    store.delete_batches(store.snapshot("r"), rng.randrange(2))


def review(store: RunStore, rng: random.Random) -> None:
    store.add_reviews(store.snapshot("r"), [review_of(1)])


def keep_queue(store: RunStore, rng: random.Random) -> None:
    store.documents.add(store.snapshot("r"), "queues", "q", [b'{"rows": []}'])


def merge(store: RunStore, rng: random.Random) -> None:
    snapshot = store.snapshot("r")
    for file in snapshot.data[:1]:
        try:
            compact(store.epoch_folder(snapshot.root, file.epoch))
        except FileNotFoundError:
            # `RunWork` logs it: the run was deleted.
            return


def read(store: RunStore, rng: random.Random) -> None:
    for name in store.names():
        snapshot = store.snapshot(name)
        assert len(store.reviews(snapshot).reviews) >= 0


def tidy(store: RunStore, rng: random.Random) -> None:
    sweep(store)


STEPS = [create, create, create, delete, put, put, put, delete_epoch, review, keep_queue, merge, read, tidy]
