"""Reads an untrusted Arrow IPC stream, record batch by record batch; every batch is validated in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.types as pat

from service.codecs.arrow.messages import CheckedMessages, StreamDecoding, replayed
from service.codecs.arrow.options import schema_options
from service.codecs.tables.batch import BatchOptions, batch_of, check_types, resolve_columns
from service.errors import BodyTooLargeError, DecodeError
from service.formats.arrow_types import innermost_type, is_list, num_levels, plain_type
from service.formats.chunk_files import chunk_file
from service.schema.config import Mode
from service.schema.request import Batch, RequestOptions


class ArrowStream:
    """The record batches of a stream as batches of logits and targets; their columns are found by their names.

    Args:
        source: Read when the next batch is requested.
        max_message_bytes: Limit of one message, as received and inflated.
        max_rows: Limit of the rows of one record batch; None: no limit.
        with_attributes: Read further columns as attributes of the examples; else they are ignored.

    Raises:
        DecodeError: The source is not an Arrow IPC stream.
        BodyTooLargeError: A message is larger than the limit.
        InvalidRequestError: The schema lacks a column, or has a type that is not accepted.
    """

    def __init__(
        self,
        source: BinaryIO,
        max_message_bytes: int,
        *,
        max_rows: int | None = None,
        with_attributes: bool = False,
    ) -> None:
        self._max_bytes, self._max_rows = max_message_bytes, max_rows
        self._messages = CheckedMessages(source, max_message_bytes, max_rows)
        try:
            with StreamDecoding(self._messages.source):
                self._first = self._messages.schema()
                self.schema = pa.ipc.read_schema(self._first)
                self._columns = resolve_columns(self.schema.names, with_attributes=with_attributes)
                check_types(self.schema, self._columns)
                self.options: RequestOptions = schema_options(self.schema, "arrow")
        except BodyTooLargeError as err:
            # No schema is so large: the bytes in the place of its length are something else.
            raise DecodeError("arrow: the body is not an Arrow IPC stream") from err

    @property
    def id_type(self) -> pa.DataType | None:
        """The type of the ids in a reply, or None without ids."""
        if self._columns.id is None:
            return None
        kind = plain_type(self._type(self._columns.id))
        is_same = pat.is_integer(kind) or pat.is_decimal(kind) or pat.is_string(kind) or pat.is_large_string(kind)
        return kind if is_same else pa.string()

    @property
    def is_double(self) -> bool:
        """True if the results are float64: those of float64, integer and decimal logits."""
        values = innermost_type(self._type(self._columns.numbers[0]))
        return values not in (pa.float16(), pa.float32())

    def has_many_labels(self, mode: Mode) -> bool:
        """True if an example can have several labels: its targets are a list, not of fixed length 1."""
        kind = plain_type(self._type(self._columns.targets))
        return mode == "sigmoid" and is_list(kind) and not (pat.is_fixed_size_list(kind) and kind.list_size == 1)

    def element_levels(self, mode: Mode) -> int:
        """Lists in each other in the outputs of the elements of an example: 0 if it has one element."""
        if mode == "sigmoid" or self._columns.statistics:
            return num_levels(self._type(self._columns.targets))
        logits = self._columns.logits
        return 0 if len(logits) > 1 else max(0, num_levels(self._type(logits[0])) - 1)

    def _type(self, name: str) -> pa.DataType:
        return self.schema.field(name).type

    def __iter__(self) -> Iterator[Batch]:
        batches = self._record_batches()
        options = BatchOptions.of(self.options, self._max_bytes, self._max_rows)
        number = 0
        while True:
            with StreamDecoding(self._messages.source):
                record_batch = next(batches, None)
                if record_batch is None:
                    return
                record_batch.validate(full=True)
                batch = batch_of(record_batch, self._columns, number, options)
            yield batch
            number += 1

    def _record_batches(self) -> Iterator[Any]:
        if _has_dictionaries(self.schema.types):
            replay = chunk_file(replayed(self._first, self._messages))
            return iter(pa.ipc.open_stream(pa.PythonFile(replay, mode="r")))
        return (pa.ipc.read_record_batch(message, self.schema) for message in self._messages)


def _has_dictionaries(kinds: list[pa.DataType]) -> bool:
    """True if a type, or a type in it, is a dictionary."""
    for kind in kinds:
        if isinstance(kind, pa.BaseExtensionType):
            inner = [kind.storage_type]
        else:
            inner = [kind.field(position).type for position in range(kind.num_fields)]
            inner += [kind.value_type] if pat.is_run_end_encoded(kind) else []
        if pat.is_dictionary(kind) or _has_dictionaries(inner):
            return True
    return False
