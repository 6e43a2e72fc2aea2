"""JSON bodies in parts or as a whole, whatever their size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.codecs import json as json_codec

NEVER = 2**62


@contextmanager
def bodies_split_from(size: int) -> Iterator[None]:
    """The logits of bodies of that many bytes and more are read apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec, "MIN_SPLIT_BYTES", size)
        yield
