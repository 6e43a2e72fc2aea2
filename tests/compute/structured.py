"""Random batches of structured examples, and their results computed example by example from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from service.schema.request import Batch

Array = np.ndarray[Any, np.dtype[Any]]
IGNORED = -100


@dataclass(frozen=True)
class Structured:
    """A batch and the values of its elements, example by example.

    Args:
        layout: Its layout.
        config: Configuration of the loss, as a JSON object.
        batch: The batch.
        examples: For each example (n, 4): loss, alpha_t, p_t and 1 for a positive element; NaN for an ignored one.
    """

    layout: str
    config: dict[str, Any]
    batch: Batch
    examples: list[Array]

    @property
    def counted(self) -> list[Array]:
        """`examples` without their ignored elements."""
        return [values[~np.isnan(values[:, 0])] for values in self.examples]


def softmax_elements(logits: Array, targets: Array, alpha: Sequence[float], gamma: float) -> Array:
    """(n, 4), see `Structured.examples`, of logits (n, C) and targets (n,)."""
    x = logits.astype(np.float64)
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    label = np.where(targets == IGNORED, 0, targets)
    p_t, alpha_t = p[np.arange(len(p)), label], np.array(alpha)[label]
    values = np.stack([alpha_t * (1 - p_t) ** gamma * -np.log(p_t), alpha_t, p_t, label != 0], axis=1)
    return np.where((targets == IGNORED)[:, np.newaxis], np.nan, values)


def sigmoid_elements(logits: Array, targets: Array, alpha: Array, gamma: float) -> Array:
    """(n, 4), see `Structured.examples`, of logits, targets 0 or 1, and weights of positives, all (n,)."""
    p_t = 1 / (1 + np.exp(np.where(targets == 1, -1, 1) * logits.astype(np.float64)))
    alpha_t = np.where(targets == 1, alpha, 1 - alpha)
    values = np.stack([alpha_t * (1 - p_t) ** gamma * -np.log(p_t), alpha_t, p_t, targets == 1], axis=1)
    return np.where((targets == IGNORED)[:, np.newaxis], np.nan, values)


@st.composite
def structured_batches(draw: st.DrawFn, *, layouts: Sequence[str] = ("rows", "dense", "ragged")) -> Structured:
    """Batches of float64 logits, of any layout and mode; some elements, and so some examples, are ignored."""
    layout, sigmoid = draw(st.sampled_from(layouts)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, columns = draw(st.integers(0, 5)), draw(st.integers(1 if sigmoid else 2, 4))
    axes = draw(st.sampled_from([(1,), (5,), (2, 3), (3, 1, 2)])) if layout == "dense" else ()
    sizes = rng.integers(0, 5, count) if layout == "ragged" else np.ones(count, np.int64)
    offsets = np.concatenate(([0], np.cumsum(sizes))) if layout == "ragged" else None
    rows = int(sizes.sum())
    logits = rng.normal(size=(rows, columns, *axes)) * 3
    shape = logits.shape if sigmoid else (rows, *axes)
    targets = rng.integers(0, 2 if sigmoid else columns, shape)
    targets[rng.random(shape) < draw(st.sampled_from([0, 0.3, 0.9]))] = IGNORED
    gamma = draw(st.sampled_from([0.0, 2.0]))
    alpha = (rng.integers(1, 4, columns) / 4).tolist()
    config = {"mode": "sigmoid" if sigmoid else "softmax", "alpha": alpha, "gamma": gamma}
    by_element = np.moveaxis(logits, 1, -1) if not sigmoid else logits
    examples = []
    for start, stop in zip(np.cumsum(sizes) - sizes, np.cumsum(sizes), strict=True):
        x, y = by_element[start:stop], targets[start:stop].reshape(-1)
        if sigmoid:
            weights = np.broadcast_to(np.reshape(alpha, (1, columns, *(1 for _ in axes))), x.shape)
            examples.append(sigmoid_elements(x.reshape(-1), y, weights.reshape(-1), gamma))
        else:
            examples.append(softmax_elements(x.reshape(-1, columns), y, alpha, gamma))
    return Structured(layout, config, Batch(logits, targets, offsets=offsets), examples)


def losses_within(values: Array, within: Any) -> float:
    """The loss of an example from its elements that count (n, 4), n >= 1."""
    losses = values[:, 0]
    if isinstance(within, dict):
        most = max(1, math.ceil(within["top_share"] * len(losses)))
        return math.fsum(sorted(losses, reverse=True)[:most]) / most
    return {"mean": math.fsum(losses) / len(losses), "sum": math.fsum(losses), "max": float(losses.max())}[within]


def divisors(counted: Sequence[Array], reduction: str, divisor: Any) -> tuple[list[float], float]:
    """The divisor of the elements of each example, and that of the batch (1 instead of 0)."""
    own = [1.0] * len(counted)
    if reduction in ("sum", "none"):
        return own, 1.0
    if divisor == "examples":
        own = [float(max(1, len(values))) for values in counted]
    elif divisor == "positives":
        own = [max(1.0, float(values[:, 3].sum())) for values in counted]
    if reduction == "weighted_mean":
        total = math.fsum(values[:, 1].sum() / by for values, by in zip(counted, own, strict=True))
    elif divisor == "elements":
        total = sum(map(len, counted))
    else:
        total = sum(len(values) > 0 for values in counted) if isinstance(divisor, str) else divisor
    return own, float(total or 1)
