"""Find flipped labels in scikit-learn's digits (`make demo`).

Flips a known share of the labels, trains a small model, starts the service, posts out-of-sample logits and the flipped
labels to /loss as safetensors and as JSON, and prints the hardest examples. Then `training_run` stores a training run
epoch by epoch and mines it. The runs are stored in the data directory of `make run`, so the page shows them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load, save
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.running_service import running_service
from examples.training_run import RUN, store_and_mine

FLIPPED_SHARE, BATCH_SIZE, FOLDS, SHOWN = 0.05, 300, 5, 20
REQUEST = {"config": {"gamma": 2.0}, "outputs": ["loss", "contribution", "p_t", "prediction"], "top_k": SHOWN}

console = Console()


def digits_with_flipped_labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels of which some are flipped to a random other class, and a mask of the flipped ones."""
    images, true_labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    flipped = np.zeros(len(true_labels), dtype=bool)
    flipped[rng.choice(len(true_labels), round(FLIPPED_SHARE * len(true_labels)), replace=False)] = True
    labels = true_labels.copy()
    labels[flipped] = (true_labels[flipped] + rng.integers(1, 10, flipped.sum())) % 10
    return images, labels, flipped


def out_of_sample_logits(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits of each image from a model that was not trained on it."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(model, images, labels, cv=folds, method="decision_function").astype(np.float32)


def post_safetensors(client: httpx.Client, logits: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> httpx.Response:
    tensors = {}
    for number, start in enumerate(range(0, len(labels), BATCH_SIZE)):
        rows = slice(start, start + BATCH_SIZE)
        tensors[f"logits.{number}"] = logits[rows]
        tensors[f"targets.{number}"] = labels[rows]
        tensors[f"ids.{number}"] = ids[rows]
    body = save(tensors, {"request": json.dumps(REQUEST)})
    reply = client.post("/loss", content=body, headers={"Content-Type": "application/x-safetensors"})
    return reply.raise_for_status()


def post_json(client: httpx.Client, logits: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> httpx.Response:
    batches = []
    for start in range(0, len(labels), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        batch = {"logits": logits[rows].tolist(), "targets": labels[rows].tolist(), "ids": ids[rows].tolist()}
        batches.append(batch)
    return client.post("/loss", json={**REQUEST, "batches": batches}).raise_for_status()


def show_batches(reply: dict) -> None:
    table = Table(title="Focal loss of each batch")
    for column in ("batch", "examples", "mean loss", "share of the request's loss"):
        table.add_column(column, justify="right")
    total = sum(batch["loss_sum"] for batch in reply["batches"])
    for number, batch in enumerate(reply["batches"]):
        share = f"{batch['loss_sum'] / total:.1%}"
        table.add_row(str(number), str(batch["num_examples"]), f"{batch['loss']:.4f}", share)
    console.print(table)


def show_hardest(reply: dict, labels: np.ndarray, flipped: np.ndarray) -> int:
    """Print the hardest examples, and return the number of flipped labels among them."""
    table = Table(title=f"The {SHOWN} hardest examples")
    for column in ("rank", "id", "given label", "prediction", "p_t", "focal loss", "flipped by us"):
        table.add_column(column, justify="right")
    num_flipped = 0
    for rank, hard in enumerate(reply["hardest"], start=1):
        scores = reply["batches"][hard["batch"]]["per_example"]
        p_t, prediction = scores["p_t"][hard["index"]], scores["prediction"][hard["index"]]
        is_flipped = bool(flipped[hard["id"]])
        num_flipped += is_flipped
        mark = "yes" if is_flipped else "-"
        label = str(labels[hard["id"]])
        table.add_row(str(rank), str(hard["id"]), label, str(prediction), f"{p_t:.1e}", f"{hard['loss']:.3f}", mark)
    console.print(table)
    return num_flipped


def main() -> None:
    images, labels, flipped = digits_with_flipped_labels()
    console.print(f"{len(labels)} digits of scikit-learn, {flipped.sum()} labels flipped ({FLIPPED_SHARE:.0%}).")
    console.print(f"Training: logistic regression, {FOLDS}-fold, out-of-sample logits ...")
    logits = out_of_sample_logits(images, labels)
    ids = np.arange(len(labels))
    console.print("Starting the service ...")
    with running_service() as url, httpx.Client(base_url=url, timeout=60) as client:
        device = client.get("/readyz").json()["device"]
        binary, text = post_safetensors(client, logits, labels, ids), post_json(client, logits, labels, ids)
        tensors, reply = load(binary.content), text.json()
        console.print(f"The service at {url} computed on {device}.")
        console.print(f"Loss by safetensors {tensors['loss']:.6f}, by JSON {reply['loss']:.6f}.")
        if not np.isclose(tensors["loss"], reply["loss"], rtol=1e-5):
            raise SystemExit("the two formats differ")
        show_batches(reply)
        num_flipped = show_hardest(reply, labels, flipped)
        console.print(
            f"{num_flipped} of the {SHOWN} hardest examples carry a flipped label; {FLIPPED_SHARE:.0%} would by chance."
        )
        store_and_mine(url, images, labels, flipped, logits, Path(tempfile.mkdtemp(prefix="focal-loss-demo-")))
    console.print(f"\nTo review the queues: make run, then http://127.0.0.1:8000/#/runs/{RUN}")


if __name__ == "__main__":
    main()
