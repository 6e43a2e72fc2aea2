"""Files of chunks."""

from __future__ import annotations

import itertools
from array import array

import pytest
from typing_extensions import Buffer

from service.formats.chunk_files import chunk_file


@pytest.mark.parametrize("size", [1, 3, 8, 100_000])
def test_bytes_of_all_chunks_in_reads_of_any_size(size: int) -> None:
    chunks: list[Buffer] = [b"ab", b"", bytearray(b"c\nd"), memoryview(array("i", range(20_000))), b"end"]
    file = chunk_file(chunks)
    assert b"".join(iter(lambda: file.read(size), b"")) == b"".join(map(bytes, chunks))


def test_lines() -> None:
    assert list(chunk_file([b"a\nb", b"c\n", b"d"])) == [b"a\n", b"bc\n", b"d"]


def test_chunk_is_taken_only_when_a_read_needs_it() -> None:
    numbers = itertools.count()
    file = chunk_file(b"%04d" % number for number in numbers)
    assert file.read(6) == b"000000"
    assert next(numbers) == 2
