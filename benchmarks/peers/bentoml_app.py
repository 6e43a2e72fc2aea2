"""BentoML: lists in JSON by its typed API; safetensors as a file, which is how it takes a raw body."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import bentoml
import torch
from bentoml.validators import ContentType

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import SAFETENSORS, scored, scored_bytes

WORKERS = 2


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Loss:
    def __init__(self) -> None:
        torch.set_num_threads(1)

    @bentoml.api
    def json(self, logits: list[list[float]], targets: list[int]) -> dict[str, Any]:
        return scored(torch.tensor(logits), torch.tensor(targets))

    @bentoml.api
    def safetensors(
        self, body: Annotated[Path, ContentType(SAFETENSORS)], /, context: bentoml.Context
    ) -> Annotated[Path, ContentType(SAFETENSORS)]:
        answer = Path(context.temp_dir) / "answer.safetensors"
        answer.write_bytes(scored_bytes(body.read_bytes()))
        return answer


if __name__ == "__main__":
    bentoml.serve("benchmarks.peers.bentoml_app:Loss", host="127.0.0.1", port=port(), blocking=True)
