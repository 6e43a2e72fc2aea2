"""LitServe: JSON by default, and safetensors by a request handler that passes the body through."""

# Without postponed annotations: LitServe evaluates them.

from typing import Any

import litserve
import litserve.server
import torch
from fastapi import Request, Response

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import SAFETENSORS, compute_from_bytes, compute_from_lists

WORKERS = 2


class RawBodies(litserve.server.RegularRequestHandler):
    """Passes safetensors bodies through: LitServe itself reads only JSON and forms."""

    async def _prepare_request(self, request: Request, request_type: Any) -> Any:
        if request.headers.get("content-type") == SAFETENSORS:
            return await request.body()
        return await super()._prepare_request(request, request_type)


litserve.server.RegularRequestHandler = RawBodies


class Loss(litserve.LitAPI):
    def setup(self, device: str) -> None:
        torch.set_num_threads(1)

    def decode_request(self, request: Request) -> Any:
        return request

    def predict(self, x: Any) -> Any:
        return compute_from_bytes(x) if isinstance(x, bytes) else compute_from_lists(x)

    def encode_response(self, output: Any) -> Any:
        return Response(output, media_type=SAFETENSORS) if isinstance(output, bytes) else output


if __name__ == "__main__":
    server = litserve.LitServer(Loss(), accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(port=port(), host="127.0.0.1", num_api_servers=1, log_level="warning", generate_client_file=False)
