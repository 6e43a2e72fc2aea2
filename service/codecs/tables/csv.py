"""`text/csv` and `text/tab-separated-values`: a line of names, then a line for each example.

Options can only be in the query. The media type can declare the encoding (`charset`) and the separator (`delimiter`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa

from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_rows, inflated_bytes
from service.codecs.tables.batch import (
    BatchOptions,
    FindColumns,
    TableRows,
    batch_of,
    check_size,
    column_fault,
    resolve_columns,
)
from service.codecs.tables.decoding import decoding
from service.errors import TooManyColumnsError
from service.formats.arrays import Body
from service.formats.column_names import ResolvedColumns, find_columns
from service.formats.columns import ColumnError
from service.formats.csv_rows import CsvFile, csv_rows, open_csv
from service.formats.part_names import NamesError
from service.schema.request import LossRequest, RequestOptions

# pyarrow takes about 5 KB for each column.
MAX_COLUMNS = 10_000


class CsvReader:
    """CSV; ids and attributes are text.

    Args:
        media_type: Its media type.
        encoding: The declared encoding; None: by the byte order mark, else UTF-8.
        separator: The declared separator; None: by the header line.
    """

    aliases: tuple[str, ...] = ()

    def __init__(
        self, media_type: str = "text/csv", *, encoding: str | None = None, separator: str | None = None
    ) -> None:
        self.media_type = media_type
        self.encoding = encoding
        self.separator = separator

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        with decoding("csv"):
            file, columns = self._open(body, options, find_columns, 0)
            try:
                table = _read(file, columns, inflated_bytes(body, options.max_bytes), options.max_rows)
            except ColumnError as err:
                raise column_fault(err, columns, 0) from err
            request_options, max_bytes = RequestOptions(), inflated_bytes(body, options.max_bytes)
            batch = batch_of(table, columns, 0, BatchOptions.of(request_options, max_bytes, options.max_rows))
            return LossRequest(request_options, (batch,))

    def rows(self, body: Body, options: DecodeOptions, find: FindColumns, *, batch: int | None = None) -> TableRows:
        """See `TableReader.rows`."""
        with decoding("csv"):
            file, columns = self._open(body, options, find, batch)
            return TableRows(columns, _read(file, columns, inflated_bytes(body, options.max_bytes), options.max_rows))

    def _open(
        self, body: Body, options: DecodeOptions, find: FindColumns, batch: int | None
    ) -> tuple[CsvFile, ResolvedColumns]:
        def fits(names: Sequence[str]) -> bool:
            try:
                find(names)
            except NamesError:
                return False
            return True

        file = open_csv(io.BytesIO(body), fits, encoding=self.encoding, separator=self.separator)
        if len(file.header) > MAX_COLUMNS:
            raise TooManyColumnsError(
                f"{len(file.header)} columns, a CSV file may have {MAX_COLUMNS}: "
                "send the logits of a row as a list in one cell, or another format"
            )
        return file, resolve_columns(file.header, with_attributes=options.with_attributes, find=find, batch=batch)


def _read(file: CsvFile, columns: ResolvedColumns, max_bytes: int, max_rows: int | None) -> pa.Table:
    rows: list[pa.RecordBatch] = []
    count = size = 0
    for batch in csv_rows(file, columns):
        rows.append(batch)
        count, size = count + len(batch), size + batch.nbytes
        check_size(size, max_bytes)
        check_rows(count, max_rows)
    return _table(rows, columns.all)


def _table(rows: list[pa.RecordBatch], names: list[str]) -> pa.Table:
    if not rows:
        return pa.table({name: [] for name in names})
    try:
        return pa.Table.from_batches(rows)
    except pa.ArrowInvalid as err:
        raise ValueError("a column has lists in some rows and single values in others") from err
