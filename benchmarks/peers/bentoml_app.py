"""BentoML: lists in JSON by its typed API; safetensors as a file, the way in which it accepts a raw body."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import bentoml
import torch
from bentoml.validators import ContentType

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import SAFETENSORS, compute, compute_from_bytes

WORKERS = 2


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Loss:
    def __init__(self) -> None:
        torch.set_num_threads(1)

    @bentoml.api
    def json(self, logits: list[list[float]], targets: list[int]) -> dict[str, Any]:
        return compute(torch.tensor(logits), torch.tensor(targets))

    @bentoml.api
    def safetensors(
        self, body: Annotated[Path, ContentType(SAFETENSORS)], /, context: bentoml.Context
    ) -> Annotated[Path, ContentType(SAFETENSORS)]:
        reply = Path(context.temp_dir) / "reply.safetensors"
        reply.write_bytes(compute_from_bytes(body.read_bytes()))
        return reply


if __name__ == "__main__":
    bentoml.serve("benchmarks.peers.bentoml_app:Loss", host="127.0.0.1", port=port(), blocking=True)
