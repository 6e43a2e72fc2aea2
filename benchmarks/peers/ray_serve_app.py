"""Ray Serve: a FastAPI app as the ingress of a deployment."""

# Without postponed annotations: FastAPI reads them in the replicas, where this module is not loaded.

from typing import Any

import ray
import torch
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from ray import serve

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import SAFETENSORS, compute, compute_from_bytes

REPLICAS = 2
app = FastAPI()


class Batch(BaseModel):
    logits: list[list[float]]
    targets: list[int]


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
@serve.ingress(app)
class Loss:
    def __init__(self) -> None:
        torch.set_num_threads(1)

    @app.post("/json")
    def json(self, batch: Batch) -> dict[str, Any]:
        return compute(torch.tensor(batch.logits), torch.tensor(batch.targets))

    @app.post("/safetensors")
    async def safetensors(self, request: Request) -> Response:
        return Response(compute_from_bytes(await request.body()), media_type=SAFETENSORS)


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    serve.run(Loss.bind(), blocking=True)
