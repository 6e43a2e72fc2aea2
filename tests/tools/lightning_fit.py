"""Trains with Lightning and records the validation set: the program of `test_lightning.py`.

python -m tests.tools.lightning_fit STRATEGY DEVICES URL
"""

from __future__ import annotations

import sys
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from service.client import LossClient, RunRecorder
from service.loss.focal import FocalLoss

ROWS, EPOCHS = 48, 2
GENERATOR = torch.Generator().manual_seed(0)
DATA = TensorDataset(
    torch.arange(ROWS), torch.randn(ROWS, 4, generator=GENERATOR), torch.randint(3, (ROWS,), generator=GENERATOR)
)


class Classifier(lightning.LightningModule):
    """A linear model that records its validation logits.

    Args:
        recorder: Made before `fit`, in another process than that of a rank.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.layer = torch.nn.Linear(4, 3)
        self.loss = FocalLoss([1.0, 2.0, 3.0], device="cpu")

    def training_step(self, batch: Any, index: int) -> Any:
        _, inputs, labels = batch
        return self.loss(self.layer(inputs), labels)

    def validation_step(self, batch: Any, index: int) -> None:
        ids, inputs, labels = batch
        if not self.trainer.sanity_checking:
            self.recorder.add(self.current_epoch, ids, self.layer(inputs), labels)

    def on_fit_end(self) -> None:
        self.recorder.close()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(strategy: str, devices: int, url: str) -> None:
    """Train, and print the rows of each epoch and the prefixes of the batches."""
    client = LossClient(url)
    run = client.put_run("lightning")
    run.describe()  # A connection is open when the ranks start.
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        strategy=strategy,
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(RunRecorder(run)), DataLoader(DATA, 8), DataLoader(DATA, 8))
    counts = [(epoch["epoch"], epoch["num_examples"]) for epoch in run.describe()["epochs"]]
    print(counts, sorted({row["batch"].rpartition("-")[0] for row in run.all_examples()}))
    run.delete()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
