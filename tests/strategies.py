"""Hypothesis strategies: JSON values, and batches that can be written in every format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

json_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | st.text(max_size=5)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def at_most(examples: int, **others: Any) -> settings:
    """Hypothesis settings with at most `examples` examples; fewer if the profile has fewer."""
    return settings(max_examples=min(examples, settings().max_examples), **others)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class PlainBatch:
    """A batch before encoding."""

    logits: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any]
    ids: list[str | int] | None


@st.composite
def softmax_batches(draw: st.DrawFn, *, most: int = 3) -> list[PlainBatch]:
    """Batches with the same number of classes; some targets are ignore_index, ids are unique or absent."""
    classes = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=most))
    elements = st.floats(-30, 30, width=32)
    names = draw(
        st.none()
        | st.lists(
            st.integers(-(2**63), 2**63 - 1) | st.text(max_size=4),
            min_size=sum(sizes),
            max_size=sum(sizes),
            unique=True,
        )
    )
    batches = []
    for size in sizes:
        logits = draw(hnp.arrays(np.float32, (size, classes), elements=elements))
        targets = draw(hnp.arrays(np.int64, size, elements=st.sampled_from([*range(classes), -100])))
        ids = None if names is None else [names.pop() for _ in range(size)]
        batches.append(PlainBatch(logits, targets, ids))
    return batches
