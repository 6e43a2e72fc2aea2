"""A process that writes batches into a run until it is killed; run by test_crash.py.

    python -m tests.runs.writer FOLDER FIRST STEP

Writes batches FIRST, FIRST + STEP, ... of epoch 0, merges whenever there is enough, and prints the name of each batch
once the store has taken it.
"""

from __future__ import annotations

import sys

from service.runs import compaction
from service.runs.compaction import compact
from service.runs.files import open_files
from service.runs.store import RunStore
from tests.runs.plain_rows import add

ROWS = 5


def ids_of(batch: int) -> list[str]:
    return [f"{batch}-{row}" for row in range(ROWS)]


def main(folder: str, first: int, step: int) -> None:
    compaction.MERGED_AT_ONCE = 4
    store = RunStore(open_files(folder), 1_000_000)
    batch = first
    while True:
        add(store, "r", 0, str(batch), ids_of(batch), digest=f"d{batch}")
        print(batch, flush=True)
        compact(store.epoch_folder(store.snapshot("r").root, 0))
        batch += step


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
