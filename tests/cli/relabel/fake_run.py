"""A run whose corrected labels are given, in place of the client of a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from service.cli.relabel.corrections import downloaded
from service.cli.relabel.rows import Relabeller
from service.client import RunClient
from service.formats.labels import ClassNames

# By id: the given class, the class to use (or lists of them), the status and the reviewers.
Rows = Mapping[str, tuple[Any, Any, str, list[str]]]


class FakeRun:
    """Writes the file of `RunClient.corrected`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def corrected(self, path: Path, **options: Any) -> bytes:
        assert options == {"format": "arrow", "policy": "reviewed", "attributes": False}
        given, used, statuses, reviewers = zip(*self._rows.values(), strict=True) if self._rows else ((),) * 4
        kind = None if any(isinstance(value, list) for value in given) else pa.int32()
        batch = pa.record_batch(
            {
                "id": pa.array(self._rows, pa.string()),
                "label_index": pa.array(used, kind),
                "given_label_index": pa.array(given, kind),
                "status": pa.array(statuses, pa.string()),
                "reviewers": pa.array(reviewers, pa.list_(pa.string())),
            }
        )
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        return b""


def relabelled(
    rows: Rows, names: Sequence[str] | None, write: Callable[[Relabeller], None], ignored: int | None = None
) -> Relabeller:
    """Call `write` with the labels of a run."""
    with downloaded(cast("RunClient", FakeRun(rows)), "reviewed") as corrections:
        relabeller = Relabeller(corrections, None if names is None else ClassNames(names), ignored)
        write(relabeller)
    return relabeller
