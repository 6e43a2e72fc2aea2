"""The number of glibc's arenas, in a process of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from service.api.allocator import ARENAS

COUNT_ARENAS = """
import ctypes, sys, tempfile, threading
from service.api.allocator import limit_arenas

limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(9)

def allocate():
    libc.malloc(100_000)
    barrier.wait()
    barrier.wait()

for _ in range(8):
    threading.Thread(target=allocate).start()
barrier.wait()
with tempfile.TemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fdopen(file.fileno(), b"w"))
    libc.malloc_info(0, stream)
    libc.fflush(stream)
    file.seek(0)
    print(file.read().count(b"<heap nr="))
barrier.wait()
"""


def arenas(**environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT_ARENAS]
    return int(subprocess.run(command, env=inherited | environment, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc")
def test_threads_share_two_arenas_unless_the_environment_says_otherwise() -> None:
    assert arenas() == ARENAS
    assert arenas(MALLOC_ARENA_MAX="4") == 4
