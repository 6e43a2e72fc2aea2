"""The finished parts of a run, so that an interrupted one goes on without scoring a row twice.

Beside the output lies a folder `OUTPUT.parts`: one Parquet file per chunk, written under another name, synced and
renamed, and a manifest that says of which inputs and options they are. The output itself is written beside its place
and renamed once it is complete; then the folder goes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import UsageError
from service.client.files import replace_atomically

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
            with replace_atomically(manifest) as temporary:
                temporary.write_text(json.dumps({"fingerprint": digest}))
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
        with replace_atomically(self._path(number)) as temporary:
            pyarrow.parquet.write_table(table, temporary)

    def remove(self) -> None:
        """The output is there: the parts are not needed any more."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08}.parquet"
