"""The labels of several annotators of a run. Each request adds a Parquet file; they are merged like those of batches.

```text
<time>-<id>.parquet         the annotations of a request, or none: then all earlier ones are deleted
level<n>-<digest>.parquet   annotations of several requests
```

The columns are `id`, `annotator`, `label` and `part`, the name of the request's file. Of the labels of an annotator for
an example that of the last part counts. The footer has the last part of the file, and the part that deletes the earlier
ones. As a file only adds to what others say, a crash leaves the annotations before or after a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from service.runs.damage import FORMAT, check_format, damage, named_damage
from service.runs.data_files import METADATA_KEY
from service.storage.cache import BoundedCache
from service.storage.compaction import MergedFolder
from service.storage.files import Files

# About 100 bytes each while a consensus is computed.
MAX_ANNOTATIONS = 5_000_000
CODES = pa.dictionary(pa.int32(), pa.string())
# The annotations that count, and the rows of files.
SCHEMA = pa.schema({"id": CODES, "annotator": CODES, "label": pa.int32()})
STORED = SCHEMA.append(pa.field("part", CODES))
TEXTS = [field.name for field in STORED if field.type == CODES]

# Returns the annotations to add to those that count.
MakeAnnotations = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class AnnotationFooter:
    """Metadata of a file.

    Args:
        rows: Number of rows.
        last: Name of the last part.
        deleted: Name of the last part that deletes all before it and itself; empty without one.
        replaces: Names of the files whose rows are in this one.
    """

    rows: int
    last: str
    deleted: str = ""
    replaces: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The metadata as Parquet stores it."""
        return {METADATA_KEY: orjson.dumps({"format": FORMAT, **asdict(self)})}


FOOTER = TypeAdapter(AnnotationFooter)


@dataclass(frozen=True)
class AnnotationFile:
    """A file of annotations.

    Args:
        name: Its name in the folder.
        footer: Its footer.
    """

    name: str
    footer: AnnotationFooter

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.footer.rows

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names of the files whose rows are in this one."""
        return self.footer.replaces


class AnnotationFolder(MergedFolder[AnnotationFile]):
    """The annotations of a run.

    Args:
        files: Files of the data directory.
        root: Data folder of the run.
        footers: Cache of footers, by path.
    """

    suffix = ".parquet"
    large = 1_000_000

    def __init__(self, files: Files, root: str, footers: BoundedCache[AnnotationFooter]) -> None:
        super().__init__(files, f"{root}/annotations", readers=root)
        self._footers = footers

    def append(self, make: MakeAnnotations, *, within: str) -> None:
        """Store further annotations durably, in one file.

        Meanwhile no other thread or process of this machine appends annotations to the run; on an object store, no
        other thread of this process.

        Args:
            make: Makes the annotations to add from those that count, both of `SCHEMA`; nothing is stored if it raises,
                or makes none.
            within: A folder that must exist; see `Files.create`.
        """
        with self.files.appending(self.path, within=within):
            live = self.live()
            rows = make(self.table(live))
            if len(rows):
                self._create(live, rows, within)

    def delete_all(self, *, within: str) -> None:
        """Delete all annotations durably, in one step.

        Args:
            within: A folder that must exist; see `Files.create`.
        """
        with self.files.appending(self.path, within=within):
            live = self.live()
            if _last(live) > _deleted(live):
                self._create(live, SCHEMA.empty_table(), within)

    def _create(self, live: Sequence[AnnotationFile], rows: pa.Table, within: str) -> None:
        # Parts are ordered by these times, so each must be later than the last one, even if the clock goes back.
        stamp = max(time.time_ns(), int(_last(live).partition("-")[0] or 0) + 1)
        part = f"{stamp:020d}-{uuid4().hex[:12]}"
        parts = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), pa.array([part]))
        footer = AnnotationFooter(len(rows), part, "" if len(rows) else part)
        self.files.create(
            f"{self.path}/{part}{self.suffix}",
            lambda file: _write(file, rows.append_column("part", parts), footer),
            within=within,
        )

    def table(self, live: Sequence[AnnotationFile] | None = None) -> pa.Table:
        """The annotations that count, of `SCHEMA`: one of each pair of an example and an annotator.

        Args:
            live: Result of `live`; read again by default.
        """
        return self._rows(self.live() if live is None else live).select(SCHEMA.names)

    def _rows(self, files: Sequence[AnnotationFile]) -> pa.Table:
        """The rows of files that count among them, of `STORED`."""
        deleted = _deleted(files)
        parts = [self._read(file) for file in files if file.size and file.footer.last > deleted]
        rows = pa.concat_tables([STORED.empty_table(), *parts]).unify_dictionaries().combine_chunks()
        # A file has each pair once.
        return _latest(rows, deleted) if len(parts) > 1 or deleted else rows

    def _read(self, file: AnnotationFile) -> pa.Table:
        path = f"{self.path}/{file.name}"
        with named_damage(path), self.files.open(path) as opened:
            parquet = pq.ParquetFile(opened, read_dictionary=TEXTS, page_checksum_verification=True)
            rows = parquet.read()
            if not rows.schema.equals(STORED):
                raise damage(path, "has other columns than annotations")
            rows.validate(full=True)
            return rows.replace_schema_metadata()

    def read(self, name: str) -> AnnotationFile:
        path = f"{self.path}/{name}"

        def footer() -> AnnotationFooter:
            with named_damage(path), self.files.open(path) as file:
                metadata = pq.read_metadata(file)
                members = orjson.loads((metadata.metadata or {})[METADATA_KEY])
                check_format(path, members.get("format", FORMAT))
                found = FOOTER.validate_python(members)
            if found.rows != metadata.num_rows:
                raise damage(path, f"has {metadata.num_rows} rows; its footer says {found.rows}")
            return found

        return AnnotationFile(name, self._footers.cached(path, footer))

    def check(self, file: AnnotationFile) -> None:
        """Read a whole file.

        Raises:
            RunDamagedError: The file is damaged.
        """
        self._read(file)

    def obsolete(self, live: Sequence[AnnotationFile]) -> list[AnnotationFile]:
        """Files whose rows are deleted; or all, if most of their rows cannot count."""
        deleted = _deleted(live)
        without = [file for file in live if file.footer.last <= deleted]
        if any(file.size for file in without):
            return without
        return list(live) if sum(file.size for file in live) > 2 * MAX_ANNOTATIONS else []

    def write(self, file: BinaryIO, group: Sequence[AnnotationFile], replaces: tuple[str, ...]) -> None:
        rows = self._rows(group)
        _write(file, rows, AnnotationFooter(len(rows), _last(group), _deleted(group), replaces))


def _last(files: Sequence[AnnotationFile]) -> str:
    return max((file.footer.last for file in files), default="")


def _deleted(files: Sequence[AnnotationFile]) -> str:
    return max((file.footer.deleted for file in files), default="")


def _latest(rows: pa.Table, deleted: str) -> pa.Table:
    """The rows of the last part of each pair of an example and an annotator, without deleted parts."""
    part, identity, annotator = (_codes(rows[name]) for name in ("part", "id", "annotator"))
    names = _dictionary(rows["part"])
    # The place of each part in the order of names.
    places = np.empty(len(names), np.int64)
    places[np.argsort(names.to_numpy(zero_copy_only=False))] = np.arange(len(names))
    order = np.argsort(places[part], kind="stable")[::-1]
    order = order[pc.greater(names, deleted).to_numpy(zero_copy_only=False)[part[order]]]
    keys = identity.astype(np.int64) * (len(_dictionary(rows["annotator"])) or 1) + annotator
    _, first = np.unique(keys[order], return_index=True)
    return rows.take(np.sort(order[first]))


def _codes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int32]]:
    codes: np.ndarray[Any, np.dtype[np.int32]] = column.combine_chunks().indices.to_numpy()
    return codes


def _dictionary(column: pa.ChunkedArray) -> pa.Array:
    return cast(pa.Array, column.combine_chunks().dictionary)


def _write(file: BinaryIO, rows: pa.Table, footer: AnnotationFooter) -> None:
    rows = rows.select(STORED.names).cast(STORED)
    with pq.ParquetWriter(
        file, STORED, compression="zstd", use_dictionary=TEXTS, write_statistics=False, write_page_checksum=True
    ) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(footer.metadata)
