"""Results of the client that are neither losses (`service.schema.result`) nor JSON (`service.schema.replies`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.schema.config import LossConfig
from service.schema.replies.service import ConfigReply


@dataclass(frozen=True)
class HeldConfig:
    """A configuration that the service holds on its device.

    Args:
        config_id: Id of the configuration in requests.
        config: The configuration with its defaults.
        alpha: Weight of each class, in sigmoid mode of each label; None if all weights are 1.
        device: Device, e.g. `cpu` or `cuda:0`.
        uses: Number of loss requests with it.
        created_at: Time when it was loaded onto the device.
        last_used_at: Time of the last request with it.
    """

    config_id: str
    config: LossConfig
    alpha: tuple[float, ...] | None
    device: str
    uses: int
    created_at: datetime
    last_used_at: datetime

    @classmethod
    def of(cls, reply: ConfigReply) -> HeldConfig:
        """Convert a reply of `/configs`."""
        return cls(
            config_id=reply["config_id"],
            config=LossConfig.parse(reply["config"]),
            alpha=None if reply["alpha"] is None else tuple(reply["alpha"]),
            device=reply["device"],
            uses=reply["uses"],
            created_at=datetime.fromisoformat(reply["created_at"]),
            last_used_at=datetime.fromisoformat(reply["last_used_at"]),
        )


@dataclass(frozen=True)
class ServiceInfo:
    """A running service.

    Args:
        url: Address of the service.
        version: Version of the service.
        ready: True if its device works and it accepts requests.
        device: Device, e.g. `cpu` or `cuda:0`; None if the service is not ready.
        reason: Why the service is not ready; None if it is.
    """

    url: str
    version: str
    ready: bool
    device: str | None
    reason: str | None = None
