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
from service.runs.schema import SCHEMAS, SCORES
from service.storage.files import Files

ROW_GROUP_ROWS = 65_536
# A row group is in memory while it is written, and one example is searched for in it.
ROW_GROUP_LOGITS = 2**24
READ_BYTES = 2**20
FLOATS = (*SCORES, "label_quality")
TEXTS = ("batch", "id", "attributes")
NUMBERS = ("epoch", "row", "target", "prediction", "num_valid")
# Lists of numbers that repeat.
CLASSES = ("shape", "targets", "predictions", "unit_given", "unit_suggested")
SAMPLE_LOGITS = 1000
# The bits of a float32 that are zero if its value was converted from float16 or bfloat16.
PAST_HALF = np.uint32(2**13 - 1)


def write_parquet(file: BinaryIO, rows: pa.Table, footer: Callable[[], Footer]) -> None:
    """Write the rows of a batch, then the footer."""
    with parquet_writer(file, rows.schema, small=_compress_well(rows)) as writer:
        writer.write_table(rows, row_group_size=rows_at_once(len(rows), _num_values(rows)))
        writer.add_key_value_metadata(footer().metadata)


def parquet_writer(file: BinaryIO, schema: pa.Schema, *, small: bool) -> pq.ParquetWriter:
    """A writer of a data file; the caller adds the footer.

    Args:
        file: File to write to.
        schema: One of `SCHEMAS`.
        small: True to split floats by byte (BYTE_STREAM_SPLIT) and compress them with zstd: 20 % smaller for random
            float32, 67 % smaller for values from half precision, in twice the time. False to compress them with lz4.
    """
    coding, encoding = ("zstd", "BYTE_STREAM_SPLIT") if small else ("lz4", "PLAIN")
    lists = [field for field in schema if pa.types.is_list(field.type)]
    floats = [*FLOATS, *(_leaf(field.name) for field in lists if pa.types.is_float32(field.type.value_type))]
    classes = [_leaf(name) for name in CLASSES]
    places = [name for name in (_leaf(field.name) for field in lists) if name not in (*floats, *classes)]
    compression = (
        dict.fromkeys((*TEXTS, *classes, *places), "zstd")
        | dict.fromkeys(NUMBERS, "none")
        | dict.fromkeys(floats, coding)
    )
    encodings = dict.fromkeys((*NUMBERS, *places), "DELTA_BINARY_PACKED") | dict.fromkeys(floats, encoding)
    leaves = {field.name if field not in lists else _leaf(field.name) for field in schema}
    return pq.ParquetWriter(
        file,
        schema,
        compression={name: value for name, value in compression.items() if name in leaves},
        column_encoding={name: value for name, value in encodings.items() if name in leaves},
        use_dictionary=[name for name in ("batch", *classes) if name in leaves],
        write_statistics=[name for name in ("epoch", "target") if name in leaves],
        write_page_checksum=True,
    )


def _leaf(name: str) -> str:
    """Name of the values of a column of lists in a Parquet file."""
    return f"{name}.list.element"


def read_parquet(
    path: str,
    file: BinaryIO,
    columns: Sequence[str] | None = None,
    rows: int = ROW_GROUP_ROWS,
    values: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a data file in bounded memory, and verify the checksums of its pages; version 0.1.0 wrote none.

    DuckDB reads at least 2048 rows at once, which takes 400 MB for the logits of 50 000 classes.

    Args:
        path: Path of the file in the data directory, for the error.
        file: The file.
        columns: Names of the columns to read; None for all.
        rows: Maximum number of rows of a batch.
        values: Maximum number of values of a column of a batch, if its lists have the same length; None for
            `ROW_GROUP_LOGITS`.

    Raises:
        RunDamagedError: The file is damaged.
    """
    with named_damage(path):
        parquet = _opened(path, file)
        most = _most_values(parquet, columns)
        yield from parquet.iter_batches(
            min(rows, rows_at_once(parquet.metadata.num_rows, most, values)), columns=columns
        )


def _opened(path: str, file: BinaryIO) -> pq.ParquetFile:
    parquet = pq.ParquetFile(file, buffer_size=READ_BYTES, page_checksum_verification=True)
    if not any(parquet.schema_arrow.equals(schema) for schema in SCHEMAS):
        raise damage(path, "has other columns than a batch")
    return parquet


def _most_values(parquet: pq.ParquetFile, columns: Sequence[str] | None) -> int:
    """The largest number of values of a column."""
    metadata = parquet.metadata
    totals = [0] * metadata.num_columns
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(metadata.num_columns):
            totals[place] += group.column(place).num_values
    names = [parquet.schema.column(place).path.partition(".")[0] for place in range(metadata.num_columns)]
    return max((total for name, total in zip(names, totals, strict=True) if columns is None or name in columns))


def read_rows(
    files: Files,
    data: DataFile,
    columns: Sequence[str] | None = None,
    rows: int = ROW_GROUP_ROWS,
    values: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a data file that count; see `read_parquet`.

    Args:
        files: The data directory.
        data: The file.
        columns: Names of the columns to read, `batch` among them; None for all.
        rows: Maximum number of rows of a batch.
        values: Maximum number of values of a column of a batch, if its lists have the same length; None for
            `ROW_GROUP_LOGITS`.

    Raises:
        FileNotFoundError: The file was merged and deleted.
    """
    hidden = pa.array(list(data.hidden), pa.string())
    with files.open(data.path) as file:
        for part in read_parquet(data.path, file, columns, rows, values):
            yield part.filter(pc.invert(pc.is_in(part["batch"], hidden))) if data.hidden else part


def read_row(
    files: Files, data: DataFile, columns: Sequence[str], place: tuple[str, int], values: int
) -> pa.RecordBatch | None:
    """Read one row of a data file, and of the other rows at most those of its row group; None if it is not there.

    Args:
        files: The data directory.
        data: The file.
        columns: Names of the columns to read.
        place: The row's batch, and its number in it.
        values: As for `read_parquet`.

    Raises:
        RunDamagedError: The file is damaged.
        FileNotFoundError: The file was merged and deleted.
    """
    batch, number = place
    with files.open(data.path) as file, named_damage(data.path):
        parquet = _opened(data.path, file)
        rows = rows_at_once(parquet.metadata.num_rows, _most_values(parquet, columns), values)
        for group in range(parquet.num_row_groups):
            places = parquet.read_row_group(group, ["batch", "row"])
            is_row = pc.and_(pc.equal(places["batch"], batch), pc.equal(places["row"], number))
            index = pc.index(is_row, True).as_py()
            if index < 0:
                continue
            for part in parquet.iter_batches(rows, row_groups=[group], columns=columns):
                if index < len(part):
                    return part.slice(index, 1)
                index -= len(part)
    return None


def rows_at_once(num_rows: int, num_values: int, most: int | None = None) -> int:
    """Rows with at most `most` values (None: `ROW_GROUP_LOGITS`), of `num_rows` rows with `num_values` values."""
    most = ROW_GROUP_LOGITS if most is None else most
    return max(1, min(ROW_GROUP_ROWS, most * num_rows // max(1, num_values)))


def _num_values(rows: pa.Table) -> int:
    """The largest number of values of a column of lists."""
    lists = [column for column in rows.columns if pa.types.is_list(column.type)]
    return max(sum(len(chunk.flatten()) for chunk in column.chunks) for column in lists)


def _compress_well(rows: pa.Table) -> bool:
    """True if the first logits, or the log-odds of elements, are exactly representable in half precision's mantissa."""
    column = rows.column("logits" if "logits" in rows.column_names else "element_log_odds")
    values = [chunk.flatten().to_numpy()[:SAMPLE_LOGITS].view(np.uint32) for chunk in column.chunks]
    return any(map(len, values)) and not any((part & PAST_HALF).any() for part in values)
