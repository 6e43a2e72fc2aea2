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
def writing(folder: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.runs.writer", str(folder), str(first), str(WRITERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged_until(process: subprocess.Popen[str], number: int) -> list[int]:
    """Kill the process with SIGKILL after so many acknowledgements; all that it has given."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(number)]
    process.kill()
    return [int(line) for line in [*lines, *process.stdout.read().splitlines()] if line.strip()]


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill_in_several_processes_that_write_and_merge(tmp_path: Path) -> None:
    """The processes are killed while they write, link, merge and delete; whatever they have said is there once."""
    store = RunStore(open_files(str(tmp_path)), 1_000_000)
    store.create("r", RunDescription())
    rng, acknowledged = random.Random(0), set[int]()
    for number in range(ROUNDS):
        with ExitStack() as stack:
            # Odd rounds begin at 0 again: all that is there already is sent once more.
            start = max(acknowledged, default=-1) + 1 if number % 2 == 0 else 0
            start += start % WRITERS
            running = [stack.enter_context(writing(tmp_path, start + one)) for one in range(WRITERS)]
            for process in running:
                acknowledged.update(acknowledged_until(process, rng.randint(1, 12)))
        found = ids_in(store, "r", 0)
        assert len(found) == len(set(found)), "a row is there twice"
        there = {int(one.partition("-")[0]) for one in found}
        assert acknowledged <= there
        assert found == sorted(one for batch in there for one in ids_of(batch)), "half a batch is visible"

    for batch in sorted(acknowledged):
        assert not add(store, "r", 0, str(batch), ids_of(batch), digest=f"d{batch}")
    compact(store.epoch_folder(store.snapshot("r").root, 0))
    assert ids_in(store, "r", 0) == found
    assert len(acknowledged) > 2 * ROUNDS
