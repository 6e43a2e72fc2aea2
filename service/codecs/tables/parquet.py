"""`application/vnd.apache.parquet`: a Parquet file, with columns named as people name them.

Nothing in it is trusted: what its pages claim to hold is added up before any is read, and texts are read with their
dictionaries, since a page of few bytes may hold one long text many times.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.base import inflated_bytes
from service.codecs.tables.parquet_claims import claimed_size
from service.codecs.tables.request import (
    check_attributes,
    check_size,
    decoding,
    find_columns,
    options_of,
    request_of,
)
from service.formats.arrays import Body
from service.schema.request import LossRequest


class ParquetReader:
    """Contract section 2, Parquet; options stand under the schema's metadata key `request`."""

    media_type = "application/vnd.apache.parquet"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, max_bytes)
        with decoding("parquet"):
            source = pa.BufferReader(body)
            schema = pq.ParquetFile(source).schema_arrow
            columns = find_columns(schema.names, with_attributes=with_attributes)
            check_attributes(schema, columns)
            options = options_of(schema, "parquet")
            texts = [name for name in columns.all if _is_text(schema.field(name).type)]
            file = pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False)
            check_size(claimed_size(body, file.schema, columns.all), max_bytes)
            table = file.read(columns=columns.all, use_threads=False)
            table.validate(full=True)
            return request_of(table, columns, options, max_bytes)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
