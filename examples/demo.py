"""Find flipped labels in scikit-learn's digits with a running service: what `make demo` shows.

Starts the service, trains a small model on real data of which a known part of the labels is flipped, posts
out-of-sample logits and the given labels to /loss as safetensors and as JSON, and looks at the hardest examples.
Then `kept_run` keeps a training run, epoch by epoch, and mines it. Its runs stay where `make run` looks for them, so
that the page shows them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from kept_run import RUN, keep_and_mine
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load, save
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FLIPPED_SHARE, BATCH_SIZE, FOLDS, SHOWN = 0.05, 300, 5, 20
REQUEST = {"config": {"gamma": 2.0}, "outputs": ["loss", "contribution", "p_t", "prediction"], "top_k": SHOWN}

console = Console()


@contextmanager
def running_service() -> Iterator[str]:
    """A service process on a free port of this machine, with the settings that any other has; ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with Path(os.devnull).open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start (exit status {process.poll()})")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def digits_with_flipped_labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, given labels, and which of these are flipped to a random other class."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[rng.choice(len(labels), round(FLIPPED_SHARE * len(labels)), replace=False)] = True
    given = labels.copy()
    given[flipped] = (labels[flipped] + rng.integers(1, 10, flipped.sum())) % 10
    return images, given, flipped


def out_of_sample_logits(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits of each image from a model that has not seen it: losses of training data would say little."""
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


def show_hardest(reply: dict, given: np.ndarray, flipped: np.ndarray) -> int:
    table = Table(title=f"The {SHOWN} hardest examples")
    for column in ("rank", "id", "given label", "prediction", "p_t", "focal loss", "flipped by us"):
        table.add_column(column, justify="right")
    found = 0
    for rank, hard in enumerate(reply["hardest"], start=1):
        scores = reply["batches"][hard["batch"]]["per_example"]
        p_t, prediction = scores["p_t"][hard["index"]], scores["prediction"][hard["index"]]
        is_flipped = bool(flipped[hard["id"]])
        found += is_flipped
        mark = "yes" if is_flipped else "-"
        label = str(given[hard["id"]])
        table.add_row(str(rank), str(hard["id"]), label, str(prediction), f"{p_t:.1e}", f"{hard['loss']:.3f}", mark)
    console.print(table)
    return found


def main() -> None:
    images, given, flipped = digits_with_flipped_labels()
    console.print(f"{len(given)} digits of scikit-learn, {flipped.sum()} labels flipped ({FLIPPED_SHARE:.0%}).")
    console.print(f"Training: logistic regression, {FOLDS}-fold, logits out of sample ...")
    logits = out_of_sample_logits(images, given)
    ids = np.arange(len(given))
    console.print("Starting the service ...")
    with running_service() as url, httpx.Client(base_url=url, timeout=60) as client:
        device = client.get("/readyz").json()["device"]
        binary, text = post_safetensors(client, logits, given, ids), post_json(client, logits, given, ids)
        tensors, reply = load(binary.content), text.json()
        console.print(f"The service at {url} computed on {device}.")
        console.print(f"Loss by safetensors {tensors['loss']:.6f}, by JSON {reply['loss']:.6f}.")
        if not np.isclose(tensors["loss"], reply["loss"], rtol=1e-5):
            raise SystemExit("the two formats differ")
        show_batches(reply)
        found = show_hardest(reply, given, flipped)
        console.print(
            f"{found} of the {SHOWN} hardest examples carry a flipped label; {FLIPPED_SHARE:.0%} would by chance."
        )
        keep_and_mine(url, images, given, flipped, logits, Path(tempfile.mkdtemp(prefix="focal-loss-demo-")))
    console.print(f"\nReview what was found: make run, then http://127.0.0.1:8000/#/runs/{RUN}")


if __name__ == "__main__":
    main()
