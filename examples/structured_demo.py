"""Find planted errors in labels, tokens or masks (`make demo TASK=multi-label|tokens|masks`).

Makes examples with errors in known places and out-of-sample logits, starts the service, pushes them into a run, and
counts how many errors are in the first rows of its queues. The run is stored in the data directory of `make run`, so
the page shows it.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from examples.masks import make_masks
from examples.planted import Array, Planted
from examples.running_service import create_run, running_service
from examples.sentences import make_sentences
from examples.topics import make_topics
from service.client import LossClient, RunClient
from service.schema.replies.queues import QueuePage, QueueRow

MAKERS = {"multi-label": make_topics, "tokens": make_sentences, "masks": make_masks}
SHOWN = 5
# Rows of a queue that are counted, as shares of the number of examples with an error.
SHARES = (0.05, 0.25, 0.5, 1.0)

console = Console()


def new_run(client: LossClient, name: str, planted: Planted) -> RunClient:
    """Create the run, and push the examples."""
    mode = "sigmoid" if planted.task == "multi_label" else "softmax"
    config = {"gamma": 2.0, "mode": mode}
    run = create_run(client, name, config=config, class_names=planted.class_names, task=planted.task)
    ids = np.arange(len(planted.errors))
    run.push(0, "all", planted.logits, planted.targets, ids, offsets=planted.offsets, attributes=planted.attributes)
    return run


def shows_error(row: QueueRow, errors: list[Array]) -> bool:
    """True if there is a planted error in the unit of the row; in a row without one, in the whole example."""
    of_example = errors[int(row["id"])]
    box = row["box"]
    if box is None:
        return bool(of_example.any())
    return bool(of_example[tuple(slice(start, stop) for start, stop in zip(*box, strict=True))].any())


def show_found(queues: dict[str, QueuePage], errors: list[Array], damaged: int) -> None:
    table = Table(title="Rows of a queue that show a planted error")
    table.add_column("queue")
    numbers = [round(share * damaged) for share in SHARES]
    for number in numbers:
        table.add_column(f"first {number}", justify="right")
    for what, queue in queues.items():
        hits = np.cumsum([shows_error(row, errors) for row in queue["rows"]])
        table.add_row(what, *(str(hits[number - 1]) for number in numbers))
    console.print(table)
    console.print("A unit has to be in the place of the error; a whole example may have it anywhere.")


def show_queue(queue: QueuePage, errors: list[Array]) -> None:
    table = Table(title=f"The first {SHOWN} of queue {queue['name']}")
    for column in ("rank", "id", "unit", "reason", "planted by us"):
        table.add_column(column)
    for row in queue["rows"][:SHOWN]:
        mark = "yes" if shows_error(row, errors) else "-"
        table.add_row(str(row["rank"]), row["id"], str(row["unit"]), row["reason"], mark)
    console.print(table)


def main(task: str) -> None:
    console.print(f"Making {task} examples and training models in folds ...")
    # More threads make such small products slower.
    with threadpool_limits(1):
        planted = MAKERS[task]()
    errors = planted.errors
    damaged = sum(bool(error.any()) for error in errors)
    console.print(f"{planted.what}: {damaged} of {len(errors)} examples have an error.")
    console.print(f"The models agree with {planted.accuracy:.1%} of the true labels.")
    name = f"demo-{task}"
    console.print("Starting the service ...")
    with running_service() as url, LossClient(url) as client:
        run = new_run(client, name, planted)
        # A row for each example at most, so that all queues lead to as many examples.
        units = run.create_queue("top_loss", damaged, name="units", units=True, at_most={"count": 1})
        queues = {
            "units by focal loss": units,
            "examples by label quality": run.create_queue("label_quality", damaged, name="label-quality"),
            "examples by mean loss": run.create_queue("top_loss", damaged, name="mean-loss", units=False),
            "random examples": run.create_queue("random", damaged, name="random"),
        }
        show_queue(units, errors)
        show_found(queues, errors, damaged)
    console.print(f"\nTo review the units: make run, then http://127.0.0.1:8000/#/runs/{name}/queues/units")


if __name__ == "__main__":
    (_, chosen) = sys.argv
    if chosen not in MAKERS:
        raise SystemExit(f"TASK is one of classification, {', '.join(MAKERS)}")
    main(chosen)
