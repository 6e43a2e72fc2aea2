"""Parquet files of rows: fast to write while a client waits, or small when files are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.runs.damage import damage, named_damage
from service.runs.data_files import DataFile, Footer
from service.runs.schema import SCHEMA, SCORES
from service.storage.files import Files

ROW_GROUP_ROWS = 65_536
# A row group is in memory while it is written, and one example is searched for in it.
ROW_GROUP_LOGITS = 2**24
READ_BYTES = 2**20
LOGITS = "logits.list.element"
LOGITS_PLACE = SCHEMA.names.index("logits")
FLOATS = (*SCORES, LOGITS)
TEXTS = ("batch", "id", "attributes")
NUMBERS = ("epoch", "row", "target", "prediction")
SAMPLE_LOGITS = 1000
# The bits of a float32 that are zero if its value was converted from float16 or bfloat16.
PAST_HALF = np.uint32(2**13 - 1)


def write_parquet(file: BinaryIO, rows: pa.Table, footer: Callable[[], Footer]) -> None:
    """Write the rows of a batch, then the footer."""
    with parquet_writer(file, rows.schema, small=_compress_well(rows)) as writer:
        writer.write_table(rows, row_group_size=rows_at_once(len(rows), _num_logits(rows)))
        writer.add_key_value_metadata(footer().metadata)


def parquet_writer(file: BinaryIO, schema: pa.Schema, *, small: bool) -> pq.ParquetWriter:
    """A writer of a data file; the caller adds the footer.

    Args:
        file: File to write to.
        schema: `SCHEMA`.
        small: True to split floats by byte (BYTE_STREAM_SPLIT) and compress them with zstd: 20 % smaller for random
            float32, 67 % smaller for values from half precision, in twice the time. False to compress them with lz4.
    """
    coding, encoding = ("zstd", "BYTE_STREAM_SPLIT") if small else ("lz4", "PLAIN")
    return pq.ParquetWriter(
        file,
        schema,
        compression=dict.fromkeys(TEXTS, "zstd") | dict.fromkeys(NUMBERS, "none") | dict.fromkeys(FLOATS, coding),
        column_encoding=dict.fromkeys(NUMBERS, "DELTA_BINARY_PACKED") | dict.fromkeys(FLOATS, encoding),
        use_dictionary=["batch"],
        write_statistics=["epoch", "target"],
        write_page_checksum=True,
    )


def read_parquet(
    path: str, file: BinaryIO, columns: Sequence[str] | None = None, rows: int = ROW_GROUP_ROWS
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a data file in bounded memory, and verify the checksums of its pages; version 0.1.0 wrote none.

    DuckDB reads at least 2048 rows at once, which takes 400 MB for the logits of 50 000 classes.

    Args:
        path: Path of the file in the data directory, for the error.
        file: The file.
        columns: Names of the columns to read; None for all.
        rows: Maximum number of rows of a batch; a batch also has at most `ROW_GROUP_LOGITS` logits.

    Raises:
        RunDamagedError: The file is damaged.
    """
    with named_damage(path):
        parquet = pq.ParquetFile(file, buffer_size=READ_BYTES, page_checksum_verification=True)
        if not parquet.schema_arrow.equals(SCHEMA):
            raise damage(path, "has other columns than a batch")
        metadata = parquet.metadata
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        num_logits = sum(group.column(LOGITS_PLACE).num_values for group in groups)
        yield from parquet.iter_batches(min(rows, rows_at_once(metadata.num_rows, num_logits)), columns=columns)


def read_rows(
    files: Files, data: DataFile, columns: Sequence[str] | None = None, rows: int = ROW_GROUP_ROWS
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a data file that count; see `read_parquet`.

    Args:
        files: The data directory.
        data: The file.
        columns: Names of the columns to read, `batch` among them; None for all.
        rows: Maximum number of rows of a batch.

    Raises:
        FileNotFoundError: The file was merged and deleted.
    """
    hidden = pa.array(list(data.hidden), pa.string())
    with files.open(data.path) as file:
        for part in read_parquet(data.path, file, columns, rows):
            yield part.filter(pc.invert(pc.is_in(part["batch"], hidden))) if data.hidden else part


def rows_at_once(num_rows: int, num_logits: int) -> int:
    """Rows of a row group in a file of `num_rows` rows with `num_logits` logits in all."""
    return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_LOGITS * num_rows // max(1, num_logits)))


def _num_logits(rows: pa.Table) -> int:
    return sum(len(chunk.flatten()) for chunk in rows.column("logits").chunks)


def _compress_well(rows: pa.Table) -> bool:
    """True if the first logits are exactly representable in the mantissa of half precision."""
    values = [chunk.flatten().to_numpy()[:SAMPLE_LOGITS].view(np.uint32) for chunk in rows.column("logits").chunks]
    return any(map(len, values)) and not any((part & PAST_HALF).any() for part in values)
