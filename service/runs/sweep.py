"""Deletes what processes that died have left in the data directory."""

from __future__ import annotations

from contextlib import suppress

from service.errors import LossServiceError
from service.runs.store import RunStore
from service.storage.compaction import delete_replaced
from service.storage.temporary import sweep_temporary


def sweep(store: RunStore) -> None:
    """Delete temporary files and folders, deleted runs, and files that others replace.

    One process sweeps at a time; services that share the data directory are not disturbed.
    """
    with suppress(FileNotFoundError), store.files.lock("") as locked:
        if not locked:
            return
        store.files.sweep()
        sweep_temporary(store.files)
        for name in store.names():
            # A damaged or just deleted run keeps its files.
            with suppress(LossServiceError, FileNotFoundError):
                _sweep_run(store, name)


def _sweep_run(store: RunStore, name: str) -> None:
    snapshot = store.snapshot(name)
    for epoch in {file.epoch for file in snapshot.data if file.replaces}:
        folder = store.epoch_folder(snapshot.root, epoch)
        with store.files.lock(folder.path) as locked:
            if locked:
                delete_replaced(folder, folder.live())
