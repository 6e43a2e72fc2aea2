"""Store of the scored parts of a run: an interrupted run continues without scoring a row twice.

The folder `OUTPUT.parts` has a Parquet file for each chunk, each written atomically, and a manifest with the
fingerprint of the inputs and options. The output is written in this folder and renamed when it is complete; then the
folder is deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import UsageError
from service.client.files import replace_atomically

MANIFEST = "manifest.json"


class PartStore:
    """The parts of one run.

    Args:
        output: Output file of the run.
        fingerprint: Inputs and options of the run as JSON.
        restart: Delete the parts of an earlier run.

    Raises:
        UsageError: The folder has parts of a run with other inputs or options.
    """

    def __init__(self, output: Path, fingerprint: Sequence[object], *, restart: bool) -> None:
        self.folder = output.with_name(output.name + ".parts")
        digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            # A run was killed while it deleted its parts: their inputs and options are unknown.
            for part in self.folder.glob("part-*.parquet"):
                part.unlink()
            with replace_atomically(manifest) as temporary:
                temporary.write_text(json.dumps({"fingerprint": digest}))
        if json.loads(manifest.read_text())["fingerprint"] != digest:
            raise UsageError(f"{self.folder} has parts of a run with other inputs or options; --restart deletes them")

    def has(self, number: int) -> bool:
        """True if the part of this chunk is stored."""
        return self._path(number).exists()

    def read(self, number: int) -> pa.Table:
        """Read a part."""
        return pyarrow.parquet.read_table(self._path(number))

    def read_schema(self, number: int) -> pa.Schema:
        """Read the columns of a part, without its metadata."""
        return pyarrow.parquet.read_schema(self._path(number)).remove_metadata()

    def write(self, number: int, table: pa.Table) -> None:
        """Store a part atomically."""
        with replace_atomically(self._path(number)) as temporary:
            pyarrow.parquet.write_table(table, temporary)

    def remove(self) -> None:
        """Delete all parts, after the output is complete."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08}.parquet"
