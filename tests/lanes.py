"""Parameters of tests for the lanes: `make quick` runs some of them, `make test` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], quick: int) -> list[Any]:
    """Mark all cases of a `parametrize` as slow but for `quick` of them: the first and others at equal distances.

    Args:
        cases: Values of the parameter; tuples if there are several parameters.
        quick: Number of cases that are not slow, at least 1.
    """
    listed = list(cases)
    kept = {number * len(listed) // quick for number in range(quick)}
    return [_param(case, slow=number not in kept) for number, case in enumerate(listed)]


def _param(case: Any, *, slow: bool) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if slow else [])
