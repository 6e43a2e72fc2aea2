"""An app written in ten minutes: FastAPI, lists in a pydantic model, the usual loss class, `tolist()`."""

from __future__ import annotations

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.arguments import port
from benchmarks.peers.seed_loss import FocalLoss

app = FastAPI()
loss_fn = FocalLoss()


class Batch(BaseModel):
    logits: list[list[float]]
    targets: list[int]


class Reply(BaseModel):
    loss: float
    per_example: list[float]


@app.post("/loss")
def loss(batch: Batch) -> Reply:
    per_example = loss_fn.per_example(torch.tensor(batch.logits), torch.tensor(batch.targets))
    return Reply(loss=per_example.mean().item(), per_example=per_example.tolist())


if __name__ == "__main__":
    uvicorn.run(app, port=port(), access_log=False, log_level="warning")
