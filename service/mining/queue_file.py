"""Files of queues: one JSON object, with each of its rows on a line, so that it is written and read in parts.

Files of earlier versions have one line, which is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, BinaryIO

import orjson
import pyarrow as pa
from pydantic import AfterValidator, TypeAdapter

from service.mining.queue_table import EPOCH_TYPES, ROWS_AT_ONCE, TYPES, UNIT_TYPES, QueueTable, table_of
from service.schema.replies.queues import QueueHead, StoredRow

BEFORE_ROWS, BETWEEN_ROWS, AFTER_ROWS = b',"rows":[\n', b",\n", b"\n]}"


def _check_members(row: StoredRow) -> StoredRow:
    if missing := TYPES.keys() - row.keys():
        raise ValueError(f"a row has no {min(missing)}")
    if len(EPOCH_TYPES.keys() & row.keys()) == 1:
        raise ValueError("a row has one of suggested_epochs and num_epochs")
    if len(UNIT_TYPES.keys() & row.keys()) not in (0, len(UNIT_TYPES)):
        raise ValueError("a row has some of unit, num_elements and box")
    return row


_HEAD = TypeAdapter(QueueHead)
_ROWS = TypeAdapter(list[Annotated[StoredRow, AfterValidator(_check_members)]])


def queue_content(queue: QueueTable) -> Iterator[bytes]:
    """The file of a queue, in parts."""
    yield orjson.dumps(queue.head)[:-1] + BEFORE_ROWS
    for first in range(0, len(queue), ROWS_AT_ONCE):
        yield (BETWEEN_ROWS if first else b"") + BETWEEN_ROWS.join(map(orjson.dumps, queue.dicts(first, ROWS_AT_ONCE)))
    yield AFTER_ROWS


def read_queue(file: BinaryIO, *, is_structured: bool = False) -> QueueTable:
    """The queue in a file.

    Args:
        file: The file.
        is_structured: True if the run is one of structured examples: then a queue without rows has their columns too.

    Raises:
        ValueError: The file is not one of a queue.
    """
    first = file.readline()
    has_lines = first.endswith(BEFORE_ROWS)
    head = orjson.loads(first.removesuffix(BEFORE_ROWS) + b"}" if has_lines else first + file.read())
    # The head itself, not the adapter's copy: it has the members of later versions too.
    _HEAD.validate_python(head)
    parts = _parts_of_lines(file) if has_lines else [head.pop("rows")]
    tables = [table_of([])]
    for rows in parts:
        _ROWS.validate_python(rows)
        tables.append(table_of(rows))
    if is_structured and not any(map(len, tables)):
        tables.append(pa.schema(list(UNIT_TYPES.items())).empty_table())
    return QueueTable.of(head, pa.concat_tables(tables, promote_options="permissive"))


def _parts_of_lines(file: BinaryIO) -> Iterator[list[StoredRow]]:
    """The rows of a file after its first line."""
    last = b""
    while lines := list(islice(file, ROWS_AT_ONCE)):
        last = lines[-1]
        text = b"".join(lines).removesuffix(AFTER_ROWS[1:]).rstrip(BETWEEN_ROWS)
        yield orjson.loads(b"[" + text + b"]")
    if last != AFTER_ROWS[1:]:
        raise ValueError("the file ends within its rows")
