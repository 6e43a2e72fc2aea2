"""`application/vnd.apache.parquet`: an untrusted Parquet file, with columns found by their usual names.

The sizes that its pages declare are added up before any page is read. Texts are read as dictionaries, because a small
page can hold one long text many times.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.arrow.reader import schema_options
from service.codecs.base import inflated_bytes
from service.codecs.tables.parquet_size import declared_size
from service.codecs.tables.request import (
    check_attribute_types,
    check_size,
    decoding,
    find_columns,
    request_of,
)
from service.formats.arrays import Body
from service.schema.request import LossRequest


class ParquetReader:
    """Parquet; options are under the metadata key `request` of the schema."""

    media_type = "application/vnd.apache.parquet"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        with decoding("parquet"):
            source = pa.BufferReader(body)
            schema = pq.ParquetFile(source).schema_arrow
            columns = find_columns(schema.names, with_attributes=with_attributes)
            check_attribute_types(schema, columns)
            options = schema_options(schema, "parquet")
            texts = [name for name in columns.all if _is_text(schema.field(name).type)]
            file = pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False)
            check_size(declared_size(body, file.schema, columns.all), max_bytes)
            table = file.read(columns=columns.all, use_threads=False)
            table.validate(full=True)
            return request_of(table, columns, options, max_bytes)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
