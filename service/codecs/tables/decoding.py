"""The errors of libraries about a broken file, as errors of the request."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from service.errors import DecodeError

# Errors other than pyarrow's own: of its readers, of strings and of the readers of headers.
BROKEN_FILE = (OSError, EOFError, ValueError, KeyError, IndexError, OverflowError, struct.error)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert the errors of a reader for a broken file to DecodeError; `name` is the name of the format."""
    try:
        yield
    except (pa.ArrowException, *BROKEN_FILE) as err:
        raise DecodeError(f"{name}: {str(err)[:500]}") from err
