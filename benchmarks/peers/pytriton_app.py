"""Triton by nvidia-pytriton: tensors in the Open Inference Protocol, in JSON or in its binary extension."""

from __future__ import annotations

import os
import sysconfig

import numpy as np
import torch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.arguments import port
from benchmarks.peers.formats import loss_fn
from benchmarks.process import free_port


def focal(requests: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Compute each request separately. Triton's batch axis is the examples, so the mean loss is repeated for each."""
    return [
        _compute(torch.from_numpy(request["logits"]), torch.from_numpy(request["targets"][:, 0]))
        for request in requests
    ]


def _compute(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, np.ndarray]:
    per_example = loss_fn.per_example(logits, targets).numpy()[:, None]
    return {"loss": np.broadcast_to(per_example.mean(), per_example.shape).copy(), "per_example": per_example}


if __name__ == "__main__":
    # Triton's Python stub would load the system's libpython, not the one of this interpreter.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port(),
        grpc_address="127.0.0.1",
        grpc_port=free_port(),
        metrics_port=free_port(),
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="focal",
            infer_func=focal,
            inputs=[
                Tensor(name="logits", dtype=np.float32, shape=(-1,)),
                Tensor(name="targets", dtype=np.int64, shape=(1,)),
            ],
            outputs=[
                Tensor(name="loss", dtype=np.float32, shape=(1,)),
                Tensor(name="per_example", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(max_batch_size=2**20),
        )
        triton.serve()
