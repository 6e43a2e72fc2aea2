"""Configurations and services as the client returns them; for results of losses see `service.schema.result`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.schema.config import LossConfig


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
