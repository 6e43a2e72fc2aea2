"""`TrainerRunCallback` in a real Trainer, with a tiny random model."""

from __future__ import annotations

import copy
import logging
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.client import LossClient, RunClient
from service.errors import ShapeError, UnknownRunError
from tests.client.small_bert import CLASSES, small_bert
from tests.live.server_process import ServerProcess

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="the Trainer needs accelerate")

# The warnings of transformers and accelerate are not ours.
pytestmark = pytest.mark.filterwarnings("default")

ROWS, LENGTH = 30, 6
RNG = np.random.default_rng(0)
DATA: list[dict[str, Any]] = [
    {
        "input_ids": RNG.integers(5, 50, LENGTH).tolist(),
        "attention_mask": [1] * LENGTH,
        "labels": int(RNG.integers(CLASSES)),
        "id": f"row-{row}",
        "text": f"text {row}",
    }
    for row in range(ROWS)
]


@pytest.fixture
def run(server: ServerProcess) -> Iterator[RunClient]:
    with LossClient(server.url) as client:
        run = client.put_run("trainer")
        yield run
        run.delete()


def train(folder: Path, *callbacks: Any, epochs: int = 2, data: Any = DATA) -> Any:
    torch.manual_seed(0)
    model = small_bert()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=7,
        learning_rate=1e-2,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=list(callbacks))
    trainer.train()
    return model


def callback(*arguments: Any, **options: Any) -> Any:
    from service.client.transformers_callback import TrainerRunCallback

    return TrainerRunCallback(*arguments, **options)


def logits_of(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([row["input_ids"] for row in DATA])).logits
    return logits


def test_each_epoch_has_the_logits_of_the_model_at_its_end(run: RunClient, tmp_path: Path) -> None:
    model = train(tmp_path, callback(run, DATA, ids="id", attributes=("text",)))
    assert [(epoch["epoch"], epoch["num_examples"]) for epoch in run.describe()["epochs"]] == [(0, ROWS), (1, ROWS)]
    stored = {row["id"]: row for row in run.all_examples(epoch=1)}
    for number, logits in enumerate(logits_of(model).tolist()):
        row = stored[f"row-{number}"]
        assert row["target"] == DATA[number]["labels"]
        assert row["attributes"] == {"text": f"text {number}"}
        assert run.example(row["id"])["logits"] == pytest.approx(logits, abs=1e-5)


def test_training_gives_the_same_model_without_the_callback(run: RunClient, tmp_path: Path) -> None:
    states = []
    for callbacks in ((), (callback(run, DATA, batch_size=4),)):
        random.seed(7)
        np.random.seed(7)
        model = train(tmp_path, *callbacks)
        assert model.training
        shared = random.random(), float(np.random.rand()), float(torch.rand(()))
        states.append(([value.clone() for value in model.state_dict().values()], shared))
    (plain, numbers), (recorded, others) = states
    assert all(torch.equal(first, second) for first, second in zip(plain, recorded, strict=True))
    assert numbers == others


def test_reduced_logits(run: RunClient, tmp_path: Path) -> None:
    model = train(tmp_path, callback(run, DATA, ids="id", reduce=True), epochs=1)
    stored = {row["id"]: row for row in run.all_examples()}
    targets = torch.tensor([row["labels"] for row in DATA])
    expected = torch.nn.functional.cross_entropy(logits_of(model), targets, reduction="none").tolist()
    assert [stored[f"row-{row}"]["cross_entropy"] for row in range(ROWS)] == pytest.approx(expected, abs=1e-5)
    assert run.example("row-0")["logits"] is None


def test_a_held_out_set_is_recorded_every_second_epoch(run: RunClient, tmp_path: Path) -> None:
    train(tmp_path, callback(run, DATA[:5], every=2, prefix="held-out"), epochs=4)
    assert [(epoch["epoch"], epoch["num_examples"]) for epoch in run.describe()["epochs"]] == [(0, 5), (2, 5)]
    assert {(row["id"], row["batch"]) for row in run.all_examples()} == {
        (str(row), "held-out-000000") for row in range(5)
    }


def test_unsuitable_data_raise_an_error_before_training(run: RunClient, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="2 ids for 30 rows"):
        callback(run, DATA, ids=["a", "b"])
    unlabelled = [{name: value for name, value in row.items() if name != "labels"} for row in DATA]
    with pytest.raises(ShapeError, match=r"one label per row; .* labels none"):
        train(tmp_path, callback(run, unlabelled))
    with pytest.raises(KeyError, match="name"):
        train(tmp_path, callback(run, DATA, ids="name"))


def test_rejected_rows_do_not_stop_training_unless_strict(
    server: ServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LossClient(server.url) as client, caplog.at_level(logging.WARNING):
        lenient = callback(client.run("absent"), DATA)
        train(tmp_path, lenient)
        assert "60 rows were not stored" in caplog.text
        assert len(lenient.errors) == 2
        with pytest.raises(UnknownRunError):
            train(tmp_path, callback(client.run("absent"), DATA, strict=True))


def test_epochs_that_the_run_has_are_reported_before_training(
    run: RunClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, callback(run, DATA))
    assert caplog.text == ""
    train(tmp_path, callback(run, DATA))
    assert "run trainer already has epochs 0, 1" in caplog.text


@pytest.mark.slow
def test_a_service_that_is_down_delays_training_by_patience_s(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    train(tmp_path, callback(LossClient("http://127.0.0.1:9").run("down"), DATA, patience_s=0.5))
    assert time.monotonic() - started < 10
    assert "may not be stored" in caplog.text
    assert "60 rows were not stored" in caplog.text


def test_a_data_set_without_rows_by_number_is_refused(run: RunClient) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(DATA)

    with pytest.raises(TypeError, match="Stream has no length or no rows by number"):
        callback(run, Stream())


def test_a_callback_can_be_copied_and_pickled(run: RunClient) -> None:
    original = callback(run, DATA, every=2)
    for other in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert (other._run.name, other._every, other._dataset) == ("trainer", 2, DATA)


@pytest.mark.slow
def test_the_import_error_names_the_missing_package() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import service.client\n"
        "try:\n    import service.client.transformers_callback\n"
        "except ModuleNotFoundError as err:\n    print(err)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "transformers is not installed: pip install transformers\n"
