"""A transformers Trainer whose loss is `FocalLoss`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from service.loss.focal import FocalLoss

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="the Trainer needs accelerate")


@pytest.mark.slow
def test_the_focal_loss_is_the_loss_of_a_trainer(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=3
    )
    losses: list[float] = []
    loss_fn = FocalLoss([1.0, 2.0, 4.0], device="cpu")

    def compute_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = loss_fn(outputs.logits, labels)
        losses.append(loss.item())
        return loss  # type: ignore[no-any-return]

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=30,
        learning_rate=0.01,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    data = [{"input_ids": [number, number], "labels": number % 3} for number in range(6)]
    model = transformers.BertForSequenceClassification(config)
    transformers.Trainer(model, arguments, train_dataset=data, compute_loss_func=compute_loss).train()
    assert losses[-1] < losses[0] / 2
