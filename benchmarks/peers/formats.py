"""The two formats that the peers take and answer, as libraries read and write them, around the seed's class."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.peers.seed_loss import FocalLoss

SAFETENSORS = "application/x-safetensors"
loss_fn = FocalLoss()


def scored(logits: Tensor, targets: Tensor) -> dict[str, object]:
    """The mean loss and that of every example, for JSON."""
    per_example = loss_fn.per_example(logits, targets)
    return {"loss": per_example.mean().item(), "per_example": per_example.tolist()}


def scored_lists(batch: dict[str, list[list[float]] | list[int]]) -> dict[str, object]:
    """The same for a batch out of JSON."""
    return scored(torch.tensor(batch["logits"]), torch.tensor(batch["targets"]))


def scored_bytes(body: bytes) -> bytes:
    """A safetensors file in, one out."""
    batch = load(body)
    per_example = loss_fn.per_example(batch["logits"], batch["targets"])
    return bytes(save({"loss": per_example.mean(), "per_example.loss": per_example}))
