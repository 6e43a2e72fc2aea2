"""SIGKILL while processes write, link, merge and delete files: all acknowledged data is stored, without duplicates."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.runs.manifest import RunDescription
from service.runs.parquet import read_rows
from service.runs.store import RunStore
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.runs.plain_rows import add, ids_in
from tests.runs.writer import batch_of, deletes, ids_of

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


@pytest.mark.slow
def test_acknowledged_annotations_survive_sigkill_of_processes_that_write_and_merge(tmp_path: Path) -> None:
    store = RunStore(open_files(str(tmp_path)), 1_000_000)
    snapshot, _ = store.create("r", RunDescription())
    rng, acknowledged, start = random.Random(3), set[int](), 0
    for _ in range(ROUNDS):
        acknowledged |= write_and_kill("annotations", tmp_path, start, rng, 30)
        labels = snapshot.annotations.table()["label"].to_pylist()
        assert len(labels) == len(set(labels)), "an annotation is stored twice"
        assert acknowledged <= set(labels)
        start = (max(labels) // WRITERS + 1) * WRITERS
    assert any(file.replaces for file in snapshot.annotations.live()), "nothing was merged"


@pytest.mark.slow
def test_replaced_and_deleted_batches_are_the_old_or_the_new_ones_after_sigkill(tmp_path: Path) -> None:
    """After each kill, every batch has the rows of the last acknowledged change, or of the one that was cut off."""
    RunStore(open_files(str(tmp_path)), 1_000_000).create("r", RunDescription())
    rng, start, possible = random.Random(2), 0, dict[str, list[int | None]]()
    cut_off = done = 0
    for _ in range(ROUNDS):
        with ExitStack() as stack:
            running = [
                stack.enter_context(writer_process("changes", tmp_path, start + writer)) for writer in range(WRITERS)
            ]
            lines = [
                line
                for process in running
                for line in lines_until_kill(process, 2 * rng.randint(1, 12) + rng.randint(0, 1))
            ]
        acknowledged = {int(line) for line in lines if not line.startswith("start")}
        started = sorted({int(line.split()[1]) for line in lines if line.startswith("start")})
        for number in started:
            state, batch = None if deletes(number) else number, batch_of(number, WRITERS)
            done += number in acknowledged
            cut_off += number not in acknowledged
            # A change that was cut off has happened or not.
            before = [] if number in acknowledged else possible.get(batch, [None])
            possible[batch] = [*before, state]
        stored = batches_in(RunStore(open_files(str(tmp_path)), 1_000_000))
        for batch, states in possible.items():
            assert stored.get(batch) in states, (batch, stored.get(batch), states)
            possible[batch] = [stored.get(batch)]
        start = (max(started) // WRITERS + 1) * WRITERS
    assert done > 2 * ROUNDS
    print(f"{done} changes acknowledged, {cut_off} cut off")


def lines_until_kill(process: subprocess.Popen[str], number: int) -> list[str]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(number)]
    process.kill()
    return [line for line in [*lines, *process.stdout.read().splitlines()] if line.strip()]


def batches_in(store: RunStore) -> dict[str, int]:
    """The number of the change whose rows each batch has; all of them, once."""
    found: dict[str, list[str]] = {}
    for file in store.snapshot("r").with_rows(0):
        for rows in read_rows(store.files, file, ["batch", "id"]):
            for batch, identity in zip(rows["batch"].to_pylist(), rows["id"].to_pylist(), strict=True):
                found.setdefault(batch, []).append(identity)
    numbers = {batch: int(ids[0].partition("-")[0]) for batch, ids in found.items()}
    for batch, ids in found.items():
        assert sorted(ids) == ids_of(numbers[batch]), "a partial or double batch is visible"
    return numbers
