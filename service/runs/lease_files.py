"""Leases of rows of queues: who reviews which rows now, so that two reviewers do not get the same ones.

```text
leases/<queue>/<time>.json  [{"reviewer": name or null, "until": seconds since 1970, "rows": [places in the queue]}]
```

Each change writes a file, which counts until a later one exists. A file that cannot be read counts as one without
leases: these expire anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from service.runs.snapshot import Snapshot
from service.storage.files import Files

SUFFIX = ".json"


class Lease(TypedDict):
    """The rows of a queue that a reviewer has leased, as their places, and the end of the lease."""

    reviewer: str | None
    until: float
    rows: list[Annotated[int, Field(ge=0)]]


_LEASES = TypeAdapter(list[Lease])


class LeaseFiles:
    """The leases of the queues of runs; safe for many threads, and for the processes of a machine.

    On an object store two processes may give the same row to two reviewers, if they change the leases at the same time.

    Args:
        files: Files of the data directory.
        not_deleted: Context manager for writing into a run, see `RunStore`.
    """

    def __init__(self, files: Files, not_deleted: Callable[[Snapshot], AbstractContextManager[str]]) -> None:
        self._files = files
        self._not_deleted = not_deleted

    def change(self, snapshot: Snapshot, queue: str, change: Callable[[list[Lease]], Sequence[Lease]]) -> None:
        """Replace the leases of a queue, while no other thread or process does.

        Args:
            snapshot: The run.
            queue: Identity of the queue.
            change: Makes the new leases from the present ones, of which some may have expired.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        folder = _folder(snapshot, queue)
        with self._not_deleted(snapshot) as within, self._files.appending(folder, within=within):
            names = self._names(folder)
            before = self._read(folder, names)
            after = change(before)
            if list(after) == before:
                return
            last = max((int(name.removesuffix(SUFFIX)) for name in names), default=0)
            content = orjson.dumps(after)
            path = f"{folder}/{max(time.time_ns(), last + 1):020d}{SUFFIX}"
            self._files.create(path, lambda file: file.write(content), within=within)
            for name in names:
                self._files.delete(f"{folder}/{name}")

    def delete(self, snapshot: Snapshot, queue: str) -> None:
        """Delete the leases of a queue."""
        self._files.delete_folder(_folder(snapshot, queue))

    def _names(self, folder: str) -> list[str]:
        return [name for name in self._files.names(folder) if name.removesuffix(SUFFIX).isdigit()]

    def _read(self, folder: str, names: Sequence[str]) -> list[Lease]:
        if not names:
            return []
        with self._files.open(f"{folder}/{max(names)}") as file:
            content = file.read()
        try:
            return _LEASES.validate_json(content)
        except ValidationError:
            return []


def _folder(snapshot: Snapshot, queue: str) -> str:
    return f"{snapshot.root}/leases/{queue}"
