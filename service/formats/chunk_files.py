"""Files of chunks that are made while they are read, for libraries that read files."""

from __future__ import annotations

import io
from collections.abc import Iterable

from typing_extensions import Buffer

BUFFER_BYTES = 64 * 1024


def chunk_file(chunks: Iterable[Buffer]) -> io.BufferedReader:
    """A file with the bytes of all chunks; takes a chunk only when a read needs it."""
    return io.BufferedReader(_ChunkSource(chunks), BUFFER_BYTES)


class _ChunkSource(io.RawIOBase):
    def __init__(self, chunks: Iterable[Buffer]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._pending:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._pending = memoryview(chunk).cast("B")
        target = memoryview(buffer)
        size = min(len(target), len(self._pending))
        target[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size
