"""JSON and safetensors for the peers, read and written by libraries, around the usual loss class."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.peers.seed_loss import FocalLoss

SAFETENSORS = "application/x-safetensors"
loss_fn = FocalLoss()


def compute(logits: Tensor, targets: Tensor) -> dict[str, object]:
    """Compute the mean loss and the loss of every example, as JSON values."""
    per_example = loss_fn.per_example(logits, targets)
    return {"loss": per_example.mean().item(), "per_example": per_example.tolist()}


def compute_from_lists(batch: dict[str, list[list[float]] | list[int]]) -> dict[str, object]:
    """Compute the losses of a batch from JSON."""
    return compute(torch.tensor(batch["logits"]), torch.tensor(batch["targets"]))


def compute_from_bytes(body: bytes) -> bytes:
    """Compute the losses of a safetensors file, as a safetensors file."""
    batch = load(body)
    per_example = loss_fn.per_example(batch["logits"], batch["targets"])
    return bytes(save({"loss": per_example.mean(), "per_example.loss": per_example}))
