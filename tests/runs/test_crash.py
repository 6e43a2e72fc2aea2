"""SIGKILL while processes write, link, merge and delete files: all acknowledged data is stored, without duplicates."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.runs.compaction import compact
from service.runs.files import open_files
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from tests.runs.plain_rows import add, ids_in
from tests.runs.writer import ids_of

ROUNDS = 6
WRITERS = 2


@contextmanager
def writer_process(kind: str, folder: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.runs.writer", kind, str(folder), str(first), str(WRITERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_after(process: subprocess.Popen[str], number: int) -> list[int]:
    """Kill the process after this many acknowledgements, and return all numbers that it acknowledged."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(number)]
    process.kill()
    return [int(line) for line in [*lines, *process.stdout.read().splitlines()] if line.strip()]


def write_and_kill(kind: str, folder: Path, start: int, rng: random.Random, most: int) -> set[int]:
    """Kill writers from `start` on after up to `most` acknowledgements each, and return the acknowledged numbers."""
    with ExitStack() as stack:
        running = [stack.enter_context(writer_process(kind, folder, start + writer)) for writer in range(WRITERS)]
        return {number for process in running for number in kill_after(process, rng.randint(1, most))}


@pytest.mark.slow
def test_acknowledged_batches_survive_sigkill_of_processes_that_write_and_merge(tmp_path: Path) -> None:
    store = RunStore(open_files(str(tmp_path)), 1_000_000)
    store.create("r", RunDescription())
    rng, acknowledged = random.Random(0), set[int]()
    for number in range(ROUNDS):
        # Odd rounds start at 0 and send all batches again.
        start = max(acknowledged, default=-1) + 1 if number % 2 == 0 else 0
        acknowledged |= write_and_kill("batches", tmp_path, start + start % WRITERS, rng, 12)
        ids = ids_in(store, "r", 0)
        assert len(ids) == len(set(ids)), "a row is stored twice"
        stored = {int(identity.partition("-")[0]) for identity in ids}
        assert acknowledged <= stored
        assert ids == sorted(identity for batch in stored for identity in ids_of(batch)), "a partial batch is visible"

    for batch in sorted(acknowledged):
        assert not add(store, "r", 0, str(batch), ids_of(batch), digest=f"d{batch}")
    compact(store.epoch_folder(store.snapshot("r").root, 0))
    assert ids_in(store, "r", 0) == ids
    assert len(acknowledged) > 2 * ROUNDS


@pytest.mark.slow
def test_acknowledged_reviews_survive_sigkill_of_processes_that_write_and_merge(tmp_path: Path) -> None:
    """Each review is stored once, and the reviews of each process keep their order."""
    store = RunStore(open_files(str(tmp_path)), 1_000_000)
    snapshot, _ = store.create("r", RunDescription())
    rng, acknowledged, start = random.Random(1), set[int](), 0
    for _ in range(ROUNDS):
        acknowledged |= write_and_kill("reviews", tmp_path, start, rng, 60)
        numbers = [int(review["comment"] or "") for review in store.reviews(snapshot).reviews]
        assert len(numbers) == len(set(numbers)), "a review is stored twice"
        assert acknowledged <= set(numbers)
        for writer in range(WRITERS):
            own = [number for number in numbers if number % WRITERS == writer]
            assert own == sorted(own)
        start = (max(numbers) // WRITERS + 1) * WRITERS

    assert any(file.replaces for file in store.review_folder(snapshot).live()), "nothing was merged"
    assert [int(review["comment"] or "") for review in RunStore(store.files, 1).reviews(snapshot).reviews] == numbers
