"""The second half of `make demo`: store two runs, one of them epoch by epoch, and mine it for wrong labels."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from examples.pictures import picture
from examples.running_service import create_run
from service.client import LossClient, RunClient
from service.schema.replies.diagnostics import Diagnostics
from service.schema.replies.dynamics import Dynamics
from service.schema.replies.queues import QueuePage

EPOCHS, BUDGET, SHOWN = 50, 50, 5
HELD_OUT = "demo-digits-held-out"
RUN, DIGITS = "demo-digits", [str(digit) for digit in range(10)]
STRATEGIES = {"top_loss": "loss of the last epoch", "area_under_margin": "margin over the first 10 epochs"}

console = Console()


def store_and_mine(
    url: str, images: np.ndarray, labels: np.ndarray, flipped: np.ndarray, held_out: np.ndarray, folder: Path
) -> None:
    """Push the runs, print diagnostics and queues of one of them, and write a file for Label Studio to the folder."""
    console.print(f"\nTraining a small network on all digits and storing its logits of {EPOCHS} epochs as a run ...")
    ids = np.arange(len(labels))
    with LossClient(url) as client:
        pictures = {"image": [picture((255 - image.reshape(8, 8) * 15.9).astype(np.uint8)) for image in images]}
        held_out_run = new_run(client, HELD_OUT)
        held_out_run.push(0, "all", held_out, labels, ids, attributes=pictures)
        held_out_run.create_queue("logit_margin", budget=BUDGET)
        run = new_run(client, RUN)
        for epoch, logits in enumerate(logits_of_epochs(images, labels)):
            # The attributes of an example are valid for all epochs.
            run.push(epoch, "all", logits, labels, ids, attributes=pictures if epoch == 0 else None)
        show_diagnostics(run.diagnostics(), run.dynamics(limit=0))
        queues = {}
        for strategy, meaning in STRATEGIES.items():
            first = 10 if strategy == "area_under_margin" else None
            queues[strategy] = run.create_queue(strategy, budget=BUDGET, first=first)
            num_flipped = sum(bool(flipped[int(row["id"])]) for row in queues[strategy]["rows"])
            console.print(f"Queue of {BUDGET} by {strategy} ({meaning}): {num_flipped} flipped labels found.")
        show_queue(queues["area_under_margin"], flipped)
        path = folder / "digits.label-studio.json"
        tool = {"object_tag": "Image", "to_name": "image"}
        name = queues["area_under_margin"]["name"]
        run.export(path, format="label-studio", queue=name, **tool)
        config = httpx.get(f"{url}/runs/{RUN}/label-studio/config", params=tool).raise_for_status().text
        check_for_label_studio(config, path)


def new_run(client: LossClient, name: str) -> RunClient:
    return create_run(client, name, config={"gamma": 2.0}, class_names=DIGITS)


def logits_of_epochs(images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Train a network and return the logits (N, 10) of its training data after each epoch."""
    scaled = StandardScaler().fit_transform(images)
    model = MLPClassifier(64, learning_rate_init=3e-3, batch_size=32, random_state=0)
    epochs = []
    for _ in range(EPOCHS):
        model.partial_fit(scaled, labels, classes=np.arange(10))
        hidden = np.maximum(scaled @ model.coefs_[0] + model.intercepts_[0], 0)
        epochs.append((hidden @ model.coefs_[1] + model.intercepts_[1]).astype(np.float32))
    return epochs


def show_diagnostics(diagnostics: Diagnostics, dynamics: Dynamics) -> None:
    table = Table(title=f"The run after epoch {diagnostics['epoch']}")
    for column in ("class", "examples", "mean loss", "label noise", "often truly"):
        table.add_column(column, justify="right")
    for row in diagnostics["classes"]:
        truly = "-" if row["often_truly"] is None else str(row["often_truly"])
        noise = f"{row['label_noise']:.1%}"
        table.add_row(row["name"], str(row["count"]), f"{row['mean_loss']:.4f}", noise, truly)
    console.print(table)
    hardest, summary = diagnostics["concentration"]["top_1_percent"], dynamics["summary"]
    console.print(f"The hardest 1 % of the examples have {hardest:.0%} of the loss.")
    console.print(f"Estimated wrong labels: {diagnostics['label_errors']['estimated']}.")
    num_hard = summary["regions"]["hard_to_learn"]
    console.print(f"Never learned: {summary['never_learned']}; hard to learn: {num_hard}.")
    for warning in diagnostics["warnings"]:
        console.print(f"Warning: {warning['message']}")


def show_queue(queue: QueuePage, flipped: np.ndarray) -> None:
    table = Table(title=f"The first {SHOWN} of queue {queue['name']}")
    for column in ("rank", "id", "label", "suggested", "reason", "flipped by us"):
        table.add_column(column)
    for row in queue["rows"][:SHOWN]:
        mark = "yes" if flipped[int(row["id"])] else "-"
        table.add_row(str(row["rank"]), row["id"], str(row["target"]), str(row["suggested"]), row["reason"], mark)
    console.print(table)


def check_for_label_studio(labelling_config: str, path: Path) -> None:
    """Check every task of the file with Label Studio's own validator."""
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(labelling_config)
    tasks = json.loads(path.read_text())
    accepted = sum(
        interface.validate_task({"data": task["data"]})
        and all(interface.validate_prediction(prediction) for prediction in task["predictions"])
        for task in tasks
    )
    console.print(f"{path}: {accepted} of {len(tasks)} tasks accepted by Label Studio's validator.")
    if accepted != len(tasks):
        raise SystemExit("Label Studio would reject the file")
