"""The finished parts of a run, so that an interrupted one goes on without scoring a row twice.

Beside the output lies a folder `OUTPUT.parts`: one Parquet file per chunk, written under another name, synced and
renamed, and a manifest that says of which inputs and options they are. The output itself is written beside its place
and renamed once it is complete; then the folder goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from service.cli.score.errors import UsageError

MANIFEST = "manifest.json"


class PartStore:
    """The parts of one run.

    Args:
        output: The file that they will make.
        fingerprint: Of inputs and options; JSON.
        restart: Forget parts of an earlier run.

    Raises:
        UsageError: There are parts of a run with other inputs or options.
    """

    def __init__(self, output: Path, fingerprint: Sequence[Any], *, restart: bool) -> None:
        self.folder = output.with_name(output.name + ".parts")
        digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            # Left over from a run that was killed while it forgot them; nobody knows of what they are.
            for part in self.folder.glob("part-*.parquet"):
                part.unlink()
            with written_beside(manifest) as beside:
                beside.write_text(json.dumps({"fingerprint": digest}))
        if json.loads(manifest.read_text())["fingerprint"] != digest:
            raise UsageError(f"{self.folder} holds parts of a run with other inputs or options: --restart forgets them")

    def has(self, number: int) -> bool:
        """Whether a chunk is scored already."""
        return self._path(number).exists()

    def read(self, number: int) -> pa.Table:
        """A part."""
        return pyarrow.parquet.read_table(self._path(number))

    def write(self, number: int, table: pa.Table) -> None:
        """Keep a part; it is there in full or not at all."""
        with written_beside(self._path(number)) as beside:
            pyarrow.parquet.write_table(table, beside)

    def remove(self) -> None:
        """The output is there: the parts are not needed any more."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08}.parquet"


@contextmanager
def written_beside(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """A place to write that becomes `path` when the block ends well, after its bytes are on the disk.

    Args:
        path: What is to be there in full or not at all.
        folder: Where that place is, on the same disk; default: that of `path`.
    """
    beside = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        beside.unlink(missing_ok=True)
