"""What the client returns: frozen, with numpy columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from service.schema.config import LossConfig
from service.schema.request import Column
from service.schema.result import BatchResult, Excluded


@dataclass(frozen=True)
class HardExample:
    """One of the hardest examples.

    Args:
        batch: Position of its batch in the request (of a stream: in the stream).
        index: Its row in that batch.
        id: As given, or None.
        loss: Unreduced focal loss.
        contribution: What it adds to the loss of its batch.
    """

    batch: int
    index: int
    id: str | int | None
    loss: float
    contribution: float


@dataclass(frozen=True, eq=False)
class LossReply:
    """The loss of a request, of each of its batches, and what each example adds to it.

    Args:
        config_id: Of the configuration that it was computed with.
        device: Where, e.g. `cpu` or `cuda:0`.
        loss: Over all examples of all batches; None with reduction `none` and for a mean over nothing.
        num_examples: Rows, ignored and excluded ones included.
        num_ignored: Rows whose target is `ignore_index`.
        num_excluded: Invalid rows that were left out on request.
        batches: In the order of the request; each has `loss`, `loss_sum`, `alpha_sum`, the three counts, `ids` and
            `per_example`: for each output a read-only array (N,) float32, float64 where the logits were; NaN where
            there is no value. `prediction` is int64, -1 where there is none, (N, L) with several labels.
        hardest: The `top_k` largest losses, the largest first.
        excluded: The first 1 000 rows that were left out, and why.
    """

    config_id: str
    device: str
    loss: float | None
    num_examples: int
    num_ignored: int
    num_excluded: int
    batches: tuple[BatchResult, ...]
    hardest: tuple[HardExample, ...] = ()
    excluded: tuple[Excluded, ...] = ()

    @cached_property
    def per_example(self) -> dict[str, Column]:
        """Each output over all batches in their order; of one batch without a copy."""
        if len(self.batches) == 1:
            return self.batches[0].per_example
        names = self.batches[0].per_example if self.batches else ()
        return {name: np.concatenate([batch.per_example[name] for batch in self.batches]) for name in names}


@dataclass(frozen=True)
class HeldConfig:
    """A configuration that the service holds on its device.

    Args:
        config_id: Names it in a request.
        config: The configuration in full.
        alpha: What its alpha resolves to, or None for weights of 1.
        device: Where it is.
        uses: Loss requests that it has served.
        created_at: When it came to the device.
        last_used_at: When it was last asked for.
    """

    config_id: str
    config: LossConfig
    alpha: tuple[float, ...] | None
    device: str
    uses: int
    created_at: datetime
    last_used_at: datetime

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> HeldConfig:
        """From the members of the service's JSON."""
        return cls(
            config_id=members["config_id"],
            config=LossConfig.parse(members["config"]),
            alpha=None if members["alpha"] is None else tuple(members["alpha"]),
            device=members["device"],
            uses=members["uses"],
            created_at=datetime.fromisoformat(members["created_at"]),
            last_used_at=datetime.fromisoformat(members["last_used_at"]),
        )


@dataclass(frozen=True)
class ServiceInfo:
    """What answers at an address.

    Args:
        url: The address.
        version: Of the service.
        ready: Whether its device computes and it takes new work.
        device: E.g. `cpu` or `cuda:0`; None while it is not ready.
        reason: Why it is not ready, None where it is.
    """

    url: str
    version: str
    ready: bool
    device: str | None
    reason: str | None = None
