"""`application/vnd.apache.parquet`: an untrusted Parquet file, with columns found by their usual names.

The sizes that its pages declare are added up before any page is read. Texts are read as dictionaries, because a small
page can hold one long text many times.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.arrow.options import schema_options
from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_rows, inflated_bytes
from service.codecs.tables.batch import (
    BatchOptions,
    FindColumns,
    TableRows,
    batch_of,
    check_size,
    check_types,
    resolve_columns,
)
from service.codecs.tables.decoding import decoding
from service.codecs.tables.parquet_size import declared_size, owners
from service.formats.arrays import Body
from service.formats.arrow_types import innermost_type, is_text
from service.formats.column_names import find_columns
from service.schema.request import LossRequest


class ParquetReader:
    """Parquet; options are under the metadata key `request` of the schema."""

    media_type = "application/vnd.apache.parquet"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        columns, table = self.rows(body, options, find_columns, batch=0)
        with decoding("parquet"):
            request_options = schema_options(table.schema, "parquet")
            max_bytes = inflated_bytes(body, options.max_bytes)
            batch = batch_of(table, columns, 0, BatchOptions.of(request_options, max_bytes, options.max_rows))
        return LossRequest(request_options, (batch,))

    def rows(self, body: Body, options: DecodeOptions, find: FindColumns, *, batch: int | None = None) -> TableRows:
        """See `TableReader.rows`."""
        with decoding("parquet"):
            source = pa.BufferReader(body)
            file = pq.ParquetFile(source)
            schema = file.schema_arrow
            columns = resolve_columns(schema.names, with_attributes=options.with_attributes, find=find, batch=batch)
            check_types(schema, columns, batch)
            texts = _text_leaves(schema, file.schema, columns.all)
            file = pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False)
            check_size(declared_size(body, file.schema, columns.all), inflated_bytes(body, options.max_bytes))
            check_rows(file.metadata.num_rows, options.max_rows)
            table = file.read(columns=columns.all, use_threads=False)
            table.validate(full=True)
            return TableRows(columns, table)


def _text_leaves(schema: pa.Schema, leaves: pq.ParquetSchema, names: list[str]) -> list[str]:
    """The paths of texts in columns, also of those in lists."""
    kinds = dict(zip(schema.names, schema.types, strict=True))
    texts = {name for name in names if is_text(innermost_type(kinds[name]))}
    return [leaf.path for leaf in map(leaves.column, range(len(leaves))) if not texts.isdisjoint(owners(leaf.path))]
