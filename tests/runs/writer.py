"""A process that writes batches, reviews or annotations into a run until it is killed; started by test_crash.py.

    python -m tests.runs.writer KIND FOLDER FIRST STEP

Writes batches (KIND `batches`), single reviews (`reviews`) or single annotations (`annotations`) FIRST, FIRST + STEP,
..., or changes its batch with each number (`changes`: see `deletes`), merges when there are enough files, and prints
each number after the store has acknowledged it.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import count

import pyarrow as pa

from service.runs.data_files import Footer, digest_of
from service.runs.store import RunStore
from service.schema.replies.reviews import Review
from service.storage import compaction
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.runs.plain_rows import NUM_CLASSES, add, rows_of

ROWS = 5


def ids_of(batch: int) -> list[str]:
    return [f"{batch}-{row}" for row in range(ROWS)]


def annotation_of(number: int, known: pa.Table) -> pa.Table:
    return pa.Table.from_pylist([{"id": f"e{number}", "annotator": "k", "label": number}], known.schema)


def review_of(number: int, identity: str = "e") -> Review:
    return {
        "id": identity,
        "verdict": "wrong",
        "label": None,
        "reviewer": None,
        "queue": None,
        "comment": str(number),
        "at": "2026-01-01T00:00:00+00:00",
    }


def batch_of(number: int, step: int) -> str:
    """The batch that a change is about; each writer has three."""
    return f"{number % step}-{number // step % 3}"


def deletes(number: int) -> bool:
    """True if the change deletes the batch, false if it replaces it."""
    return number % 5 == 0


def change(store: RunStore, number: int, step: int) -> None:
    batch, snapshot = batch_of(number, step), store.snapshot("r")
    if not deletes(number):
        rows = rows_of(0, batch, ids_of(number))
        store.add(snapshot, 0, batch, rows, lambda: Footer(ROWS, {batch: f"d{number}"}), NUM_CLASSES, over=True)
    elif digest_of(snapshot.data, batch) is not None:
        store.delete_batches(snapshot, 0, batch)


def main(kind: str, folder: str, first: int, step: int) -> None:
    compaction.MERGED_AT_ONCE = 4
    store = RunStore(open_files(folder), 1_000_000)
    snapshot = store.snapshot("r")
    for number in count(first, step):
        if kind == "batches":
            add(store, "r", 0, str(number), ids_of(number), digest=f"d{number}")
            print(number, flush=True)
            compact(store.epoch_folder(snapshot.root, 0))
        elif kind == "changes":
            print(f"start {number}", flush=True)
            change(store, number, step)
            print(number, flush=True)
            compact(store.epoch_folder(snapshot.root, 0))
        elif kind == "annotations":
            store.append_annotations(snapshot, partial(annotation_of, number))
            print(number, flush=True)
            compact(snapshot.annotations)
        else:
            store.add_reviews(snapshot, [review_of(number)])
            print(number, flush=True)
            compact(store.review_folder(snapshot))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
