"""`text/csv`: a line of names, then a line for each example; UTF-8. Options can only be in the query."""

from __future__ import annotations

import io

import pyarrow as pa

from service.codecs.base import inflated_bytes
from service.codecs.tables.request import check_size, decoding, find_columns, request_of, table_fault
from service.formats.arrays import Body
from service.formats.columns import ColumnError
from service.formats.csv_rows import csv_rows, header_of
from service.schema.request import LossRequest, RequestOptions


class CsvReader:
    """CSV; ids and attributes are text."""

    media_type = "text/csv"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        source = io.BytesIO(body)
        with decoding("csv"):
            header = header_of(source.readline())
            source.seek(0)
            columns = find_columns(header, with_attributes=with_attributes)
            rows: list[pa.RecordBatch] = []
            try:
                for batch in csv_rows(source, header, columns):
                    rows.append(batch)
                    check_size(sum(batch.nbytes for batch in rows), max_bytes)
            except ColumnError as err:
                raise table_fault(err, columns) from err
            table = pa.Table.from_batches(rows) if rows else pa.table({name: [] for name in columns.all})
            return request_of(table, columns, RequestOptions(), max_bytes)
