from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.api.http.buffers import MIN_KEPT_BYTES, BufferPool, new_buffer

MIB = 1024 * 1024


def address(body: memoryview) -> int:
    return int(np.frombuffer(body, np.uint8).ctypes.data)


@pytest.mark.parametrize("length", [0, 1, MIN_KEPT_BYTES - 1, MIN_KEPT_BYTES, MIN_KEPT_BYTES + 1, 3 * MIB + 5])
def test_writable_bytes_of_the_requested_length(length: int) -> None:
    body = BufferPool(8 * MIB).take(length)
    body[:] = bytes([7]) * length
    assert body == bytes([7]) * length
    assert (body.format, body.ndim, body.c_contiguous, body.nbytes) == ("B", 1, True, length)


@pytest.mark.parametrize("length", [MIN_KEPT_BYTES + 2, 3 * MIB + 5])
def test_a_buffer_is_reused_after_its_last_view_is_gone(length: int) -> None:
    buffers = BufferPool(8 * MIB)
    body = buffers.take(length)
    first = address(body)
    assert buffers.kept_bytes == 0
    del body
    assert length <= buffers.kept_bytes < 1.25 * length
    body = buffers.take(length - 1)
    assert address(body) == first
    assert buffers.kept_bytes == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda body: body[5:9],
        lambda body: np.frombuffer(body, np.float32)[100:],
        lambda body: torch.frombuffer(body, dtype=torch.uint8, count=80, offset=16).view(torch.float64).reshape(2, 5),
        lambda body: torch.frombuffer(body, dtype=torch.uint8)[3:].numpy()[2:],
        lambda body: pa.py_buffer(body).slice(8),
        lambda body: pa.array(np.frombuffer(body, np.int64)[7:]),
    ],
)
def test_a_buffer_with_a_view_is_not_reused(view: Any) -> None:
    buffers = BufferPool(8 * MIB)
    body = buffers.take(MIB)
    remaining_view, first = view(body), address(body)
    del body
    assert buffers.kept_bytes == 0
    assert address(buffers.take(MIB)) != first
    kept_bytes = buffers.kept_bytes
    del remaining_view
    assert buffers.kept_bytes == kept_bytes + MIB


def test_an_error_keeps_the_buffer_that_it_came_from() -> None:
    buffers = BufferPool(8 * MIB)

    def fail() -> None:
        body = buffers.take(MIB)
        raise ValueError(len(body))

    def caught() -> ValueError:
        try:
            fail()
        except ValueError as err:
            return err
        raise AssertionError

    err = caught()
    assert buffers.kept_bytes == 0
    err.__traceback__ = None
    assert buffers.kept_bytes == MIB


def test_the_most_recently_used_sizes_are_kept_within_the_limit() -> None:
    buffers = BufferPool(4 * MIB)
    for size in (MIB, 2 * MIB, 3 * MIB):
        buffers.take(size)
    assert buffers.kept_bytes == 4 * MIB - MIB
    in_use = buffers.take(3 * MIB)
    assert buffers.kept_bytes == 0
    several = [buffers.take(MIB) for _ in range(6)]
    del several
    assert buffers.kept_bytes == 4 * MIB
    del in_use
    assert buffers.kept_bytes == 4 * MIB


@pytest.mark.parametrize("limit", [0, MIB - 1])
def test_a_buffer_larger_than_the_limit_is_not_kept(limit: int) -> None:
    buffers = BufferPool(limit)
    buffers.take(MIB)
    assert buffers.kept_bytes == 0


@given(st.integers(MIN_KEPT_BYTES, 4 * MIB))
def test_a_small_body_never_holds_a_much_larger_buffer(length: int) -> None:
    buffers = BufferPool(1024 * MIB)
    buffers.take(length)
    assert length <= buffers.kept_bytes < 1.25 * length
    first = buffers.kept_bytes
    buffers.take(first)
    assert buffers.kept_bytes == first
    buffers.take(first + 1)
    assert buffers.kept_bytes > first


def test_memory_is_not_touched_before_it_is_written_to() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    buffers = [BufferPool(0).take(256 * MIB), new_buffer(256 * MIB)]
    assert resident() - before < 16 * MIB
    assert [len(buffer) for buffer in buffers] == [256 * MIB] * 2


@pytest.mark.slow
def test_threads_never_share_a_buffer() -> None:
    buffers = BufferPool(4 * MIB)
    start = threading.Barrier(4)

    def work(number: int) -> bool:
        start.wait()
        for turn in range(200):
            body = np.frombuffer(buffers.take(MIN_KEPT_BYTES + turn % 3 * MIN_KEPT_BYTES), np.uint8)
            body[::4096] = number
            if turn % 50 == 0:
                gc.collect()
            if not (body[::4096] == number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert 0 < buffers.kept_bytes <= 4 * MIB
    assert buffers.kept_bytes == sum(size * len(unused) for size, unused in buffers._unused.items())
