"""The run that `focal-loss runs create` and `focal-loss push --create` create."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.schema.structure import Task

if TYPE_CHECKING:
    from service.client import LossClient, RunClient


@dataclass(frozen=True)
class NewRun:
    """Description of a run to create; None for a default of the service."""

    config: Mapping[str, object]
    class_names: list[str] | None
    task: Task | None
    within: str | Mapping[str, float] | None
    store_logits: bool = True

    def create(self, client: LossClient, name: str) -> RunClient:
        """Create the run; nothing changes if it exists with the same description."""
        options: dict[str, Any] = {"task": self.task, "within": self.within}
        given = {member: value for member, value in options.items() if value is not None}
        return client.put_run(
            name, config=self.config, class_names=self.class_names, store_logits=self.store_logits, **given
        )
