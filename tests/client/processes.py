"""Programs of `test_processes.py`: one client and one recorder in several processes.

python -m tests.client.processes PROGRAM URL
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile

import torch
from torch.utils.data import DataLoader, Dataset

from service.client import LossClient, RunRecorder

ROWS, CLASSES = 60, 3
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(ROWS, CLASSES, generator=GENERATOR)
TARGETS = torch.randint(CLASSES, (ROWS,), generator=GENERATOR)


class Losses(Dataset[tuple[int, float]]):
    """Data set whose items are losses that the service computes."""

    def __init__(self, client: LossClient, num_items: int) -> None:
        self._client = client
        self._num_items = num_items

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, item: int) -> tuple[int, float]:
        row = slice(item % ROWS, item % ROWS + 1)
        return item, float(self._client.loss(LOGITS[row], TARGETS[row]).loss or 0)


def workers(url: str) -> None:
    """Read losses in the workers of a DataLoader, and print the number of wrong ones for each start method."""
    client = LossClient(url)
    items = Losses(client, 400)
    expected = torch.nn.functional.cross_entropy(LOGITS, TARGETS, reduction="none").double()
    p_t = (-expected).exp()
    expected = (1 - p_t) ** 2 * expected
    for method in ("fork", "spawn"):
        items[0]  # A connection is open when the workers start.
        wrong = num_items = 0
        for numbers, losses in DataLoader(items, 10, num_workers=2, multiprocessing_context=method):
            num_items += len(numbers)
            wrong += int(((losses - expected[numbers % ROWS]).abs() > 1e-6).sum())
        print(method, num_items, wrong)


def recorder(url: str) -> None:
    """Record rows in forked and in spawned ranks; none of them closes the recorder."""
    with LossClient(url) as client:
        for method in ("fork", "spawn"):
            with RunRecorder(client.put_run(method)) as recorder:
                recorder.add(0, ["parent"], LOGITS[:1], TARGETS[:1])
                with tempfile.TemporaryDirectory() as folder:
                    arguments = (recorder, f"file://{folder}/store")
                    torch.multiprocessing.start_processes(_record, arguments, nprocs=2, start_method=method)
            rows = [(epoch["epoch"], epoch["num_examples"]) for epoch in client.run(method).describe()["epochs"]]
            print(method, rows, sorted(row["batch"] for row in client.run(method).all_examples()))
            client.run(method).delete()


def _record(rank: int, recorder: RunRecorder, store: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    recorder.add(1, [f"rank {rank}"], LOGITS[:1], TARGETS[:1])
    torch.distributed.destroy_process_group()


def stream(url: str) -> None:
    """Continue a stream in a forked process, and print the error."""
    client = LossClient(url)
    results = client.stream((LOGITS[row : row + 1], TARGETS[row : row + 1]) for row in range(2000))
    next(results)
    child = multiprocessing.get_context("fork").Process(target=_continue, args=(results,))
    child.start()
    child.join()


def _continue(results: object) -> None:
    try:
        list(results)  # type: ignore[call-overload]
    except RuntimeError as err:
        print(err, flush=True)


if __name__ == "__main__":
    programs = {"workers": workers, "recorder": recorder, "stream": stream}
    programs[sys.argv[1]](sys.argv[2])
