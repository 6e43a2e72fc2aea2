"""The messages of an untrusted Arrow IPC stream, checked before pyarrow reads what they declare.

pyarrow's reader checks the structure of a message, not its content, and allocates as much memory as a compressed buffer
declares (Arrow's "Security Considerations", docs/source/format/Security.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from service.codecs.arrow.declared_size import declared
from service.codecs.base import check_rows
from service.errors import BodyTooLargeError, DecodeError, LossServiceError


class CheckedMessages:
    """The messages of a stream: a schema, then dictionaries and record batches.

    Args:
        source: Read when the next message is requested.
        max_bytes: Limit of one message, and of all dictionaries together, as received and inflated.
        max_rows: Limit of the rows of a record batch.
    """

    def __init__(self, source: BinaryIO, max_bytes: int, max_rows: int | None) -> None:
        self.source = LimitedSource(source, max_bytes)
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._dictionaries: dict[int, int] = {}
        self._batches = 0
        self._messages = pa.ipc.MessageReader.open_stream(pa.PythonFile(self.source, mode="r"))

    def schema(self) -> Any:
        """The first message, the schema."""
        message = self._next()
        if message is None:
            raise DecodeError("arrow: the stream is empty")
        if message.type != "schema":
            raise DecodeError(f"arrow: the stream begins with a {message.type}, not with a schema")
        return message

    def __iter__(self) -> Iterator[Any]:
        while (message := self._next()) is not None:
            if message.type not in ("record batch", "dictionary"):
                raise DecodeError(f"arrow: message {self._batches} is a {message.type}, not a record batch")
            self._check(message)
            yield message

    def _next(self) -> Any:
        try:
            return self._messages.read_next_message()
        except StopIteration:
            return None

    def _check(self, message: Any) -> None:
        rows, nbytes, dictionary, is_delta = declared(message)
        if dictionary is None:
            what, self._batches = f"batch {self._batches} inflates", self._batches + 1
        else:
            nbytes = max(nbytes, len(message.body))
            before = self._dictionaries.get(dictionary, 0) if is_delta else 0
            self._dictionaries[dictionary] = before + nbytes
            what, nbytes = "dictionaries inflate", sum(self._dictionaries.values())
        if nbytes > self._max_bytes:
            raise BodyTooLargeError(f"{what} to {nbytes} bytes, the limit is {self._max_bytes} (max_body_bytes)")
        if dictionary is None:
            check_rows(rows, self._max_rows)


def replayed(schema: Any, messages: CheckedMessages) -> Iterator[pa.Buffer]:
    """The bytes of a schema and of the messages after it, each read when it is needed.

    Only pyarrow's reader of a whole stream can read dictionaries.
    """
    yield schema.serialize()
    try:
        for message in messages:
            yield message.serialize()
    except Exception as err:
        messages.source.failure = messages.source.failure or err
        raise


class LimitedSource:
    """A source that raises if one read is larger than the limit, and stores the error of a failed read."""

    def __init__(self, source: BinaryIO, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self.failure: Exception | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes | bytearray:
        try:
            self._check(size)
            return self._source.read(size)
        except Exception as err:
            self.failure = err
            raise

    def _check(self, size: int) -> None:
        if not 0 <= size <= self._max_bytes:
            raise BodyTooLargeError(
                f"arrow: a message of {size} bytes, the limit is {self._max_bytes} (max_body_bytes)"
            )

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class StreamDecoding:
    """Converts errors of pyarrow to DecodeError; if the source has failed, raises the error of the source."""

    def __init__(self, source: LimitedSource) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        failure = self._source.failure or err
        if isinstance(failure, pa.ArrowException | OSError | EOFError | ValueError | struct.error) and not isinstance(
            failure, LossServiceError
        ):
            raise DecodeError(f"arrow: {failure}") from err
        if failure is not None and failure is not err:
            raise failure
