"""cleanlab's results with stable sorts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np


@contextmanager
def stable_sorts() -> Iterator[None]:
    """Replace numpy's `argsort` by a stable one: its AVX-512, AVX2 and plain sorts order ties differently.

    cleanlab works in this process, where the replacement is.
    """
    stable = functools.partial(np.argsort, kind="stable")
    with mock.patch.object(np, "argsort", stable), mock.patch("psutil.cpu_count", return_value=1):
        yield
