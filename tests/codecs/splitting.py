"""Sets the size from which JSON bodies are split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.codecs import json as json_codec

NEVER = 2**62


@contextmanager
def bodies_split_from(size: int) -> Iterator[None]:
    """Read the logits of bodies of at least this size by the scanner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec, "MIN_SPLIT_BYTES", size)
        yield
