"""mosec: one route for JSON, the default of its workers, and one for safetensors bytes."""

from __future__ import annotations

import sys

import torch
from mosec import Runtime, Server, Worker

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import SAFETENSORS, compute_from_bytes, compute_from_lists

WORKERS = 2


class JsonWorker(Worker):
    def __init__(self) -> None:
        torch.set_num_threads(1)

    def forward(self, data: dict[str, list[list[float]] | list[int]]) -> dict[str, object]:
        return compute_from_lists(data)


class BytesWorker(Worker):
    resp_mime_type = SAFETENSORS

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def deserialize(self, data: bytes) -> bytes:
        return bytes(data)  # from bytearray, which safetensors does not accept

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> bytes:
        return compute_from_bytes(data)


if __name__ == "__main__":
    # mosec reads its settings from the command line. The default limits are 10 MiB per body and 3 s per request.
    limits = ["--max-request-size", str(2**29), "--timeout", "60000"]
    sys.argv = [sys.argv[0], "--address", "127.0.0.1", "--port", str(port()), "--log-level", "warning", *limits]
    server = Server()
    server.register_runtime(
        {"/json": [Runtime(JsonWorker, num=WORKERS)], "/safetensors": [Runtime(BytesWorker, num=WORKERS)]}
    )
    server.run()
