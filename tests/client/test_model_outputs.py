"""The outputs of models of transformers as batches of a run, alone and from a real Trainer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from service.client import LossClient
from service.client.model_outputs import batch_of_outputs
from service.errors import ShapeError
from service.schema.structure import Task
from tests.client.small_bert import small_bert

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 4, 3, generator=GENERATOR)
# The tokenizer's first and last token do not count; the second sentence is shorter.
LABELS = torch.tensor([[-100, 1, 2, -100], [-100, 0, -100, -100]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
WITH_MASK, WITHOUT_MASK = [0, 4, 7], [0, 3, 5]


@pytest.mark.parametrize(("mask", "offsets"), [(MASK, WITH_MASK), (None, WITHOUT_MASK), (MASK[:, :2], WITHOUT_MASK)])
def test_padding_is_left_out_and_other_tokens_stay(mask: Any, offsets: list[int]) -> None:
    logits, targets, got = batch_of_outputs("tokens", LOGITS, LABELS, mask)
    assert got == offsets
    for row, (start, stop) in enumerate(pairwise(offsets)):
        assert targets[start:stop].tolist() == LABELS[row, : stop - start].tolist()
        assert torch.equal(logits[start:stop], LOGITS[row, : stop - start])


def test_padding_on_the_left_is_left_out() -> None:
    logits, targets, offsets = batch_of_outputs("tokens", LOGITS.flip(1), LABELS.flip(1), MASK.flip(1))
    assert (offsets, targets.tolist()) == (WITH_MASK, [-100, 2, 1, -100, -100, 0, -100])
    assert torch.equal(logits[4:], LOGITS[1, :3].flip(0))


def test_masks_have_the_size_of_their_labels() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.zeros(2, 8, 6, dtype=torch.long)
    resized, targets, _ = batch_of_outputs("masks", logits, labels, None)
    assert torch.equal(resized, interpolate(logits, (8, 6), mode="bilinear", align_corners=False))
    assert targets is labels
    assert batch_of_outputs("masks", logits[:, :1], labels[:, :4, :4], None)[0].shape == (2, 4, 4)
    voxels = torch.zeros(2, 3, 4, 4, 4)
    assert batch_of_outputs("masks", voxels, voxels[:, 0].long(), None)[0] is voxels


@pytest.mark.parametrize(
    ("task", "logits", "labels"),
    [
        ("classification", LOGITS, LABELS),
        ("classification", LOGITS[0], None),
        ("classification", "no tensor", LABELS[0]),
        ("multi_label", LOGITS[0], LABELS[0]),
        ("tokens", LOGITS, LABELS[:, :3]),
        ("tokens", LOGITS[0], LABELS[0]),
        ("masks", LOGITS, LABELS[0]),
        ("masks", LOGITS[..., None, None], LABELS[:, None, :, None]),
    ],
)
def test_other_shapes_are_named(task: Task, logits: Any, labels: Any) -> None:
    with pytest.raises(ShapeError, match=f"a run of the task {task} stores logits"):
        batch_of_outputs(task, logits, labels, None)


def token_data() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 6, 10)
    return [
        {
            "input_ids": rng.integers(5, 50, size).tolist(),
            "attention_mask": [1] * int(size),
            "labels": [-100, *rng.integers(0, 3, size - 1).tolist()],
        }
        for size in sizes
    ]


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["labels"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def small_segformer(transformers: Any) -> Any:
    options = {name: [1, 1] for name in ("depths", "sr_ratios", "num_attention_heads", "mlp_ratios")}
    sizes = {"hidden_sizes": [8, 8], "patch_sizes": [3, 3], "strides": [4, 2], "decoder_hidden_size": 8}
    config = transformers.SegformerConfig(num_encoder_blocks=2, num_labels=3, **options, **sizes)
    return transformers.SegformerForSemanticSegmentation(config)


def task_of(transformers: Any, task: str) -> tuple[Any, list[dict[str, Any]], Any]:
    """A model, its data and its collator."""
    if task == "tokens":
        return small_bert("Token"), token_data(), padded
    if task == "masks":
        images = torch.rand(4, 3, 16, 16, generator=GENERATOR)
        labels = torch.randint(0, 3, (4, 16, 16), generator=GENERATOR)
        data = [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]
        return small_segformer(transformers), data, None
    rows = [{"input_ids": [5 + row, 7], "labels": [float(row % 2), 1.0, 0.0]} for row in range(6)]
    return small_bert(problem_type="multi_label_classification"), rows, None


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("task", ["multi_label", "tokens", "masks"])
def test_trainer_records_every_example(loss_client: LossClient, tmp_path: Path, task: Task, reduce: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
    from service.client.transformers_callback import TrainerRunCallback

    torch.manual_seed(0)
    model, data, collate = task_of(transformers, task)
    mode = "sigmoid" if task == "multi_label" else "softmax"
    run = loss_client.put_run(f"trainer-{task}-{reduce}", config={"mode": mode}, task=task)
    callback = TrainerRunCallback(run, data, task=task, reduce=reduce, strict=True)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[callback]
    )
    trainer.train()
    rows = {int(row["id"]): row for row in run.all_examples()}
    assert sorted(rows) == list(range(len(data)))
    model.eval()
    for number, example in enumerate(data):
        inputs = {name: torch.as_tensor(value)[None] for name, value in example.items()}
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = model(**inputs).logits
        if task == "masks":
            logits = interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        if task == "multi_label":
            expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        else:
            expected = cross_entropy(logits.movedim(-1, 1) if task == "tokens" else logits, labels)
        assert rows[number]["cross_entropy"] == pytest.approx(float(expected), rel=1e-4)
