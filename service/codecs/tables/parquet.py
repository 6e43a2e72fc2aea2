"""`application/vnd.apache.parquet`: an untrusted Parquet file, with columns found by their usual names.

The sizes that its pages declare are added up before any page is read. Texts are read as dictionaries, because a small
page can hold one long text many times.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.arrow.options import schema_options
from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_rows, inflated_bytes
from service.codecs.tables.batch import batch_of, check_size, check_types, resolve_columns
from service.codecs.tables.decoding import decoding
from service.codecs.tables.parquet_size import declared_size
from service.formats.arrays import Body
from service.formats.arrow_types import is_text, plain_type
from service.schema.request import LossRequest


class ParquetReader:
    """Parquet; options are under the metadata key `request` of the schema."""

    media_type = "application/vnd.apache.parquet"
    aliases: tuple[str, ...] = ()

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        max_bytes = inflated_bytes(body, options.max_bytes)
        with decoding("parquet"):
            source = pa.BufferReader(body)
            schema = pq.ParquetFile(source).schema_arrow
            columns = resolve_columns(schema.names, with_attributes=options.with_attributes)
            check_types(schema, columns)
            request_options = schema_options(schema, "parquet")
            kinds = dict(zip(schema.names, schema.types, strict=True))
            texts = [name for name in columns.all if is_text(plain_type(kinds[name]))]
            file = pq.ParquetFile(source, read_dictionary=texts, pre_buffer=False)
            check_size(declared_size(body, file.schema, columns.all), max_bytes)
            check_rows(file.metadata.num_rows, options.max_rows)
            table = file.read(columns=columns.all, use_threads=False)
            table.validate(full=True)
            keep_missing = request_options.on_invalid == "exclude"
            batch = batch_of(table, columns, 0, keep_missing=keep_missing, max_bytes=max_bytes)
        return LossRequest(request_options, (batch,))
