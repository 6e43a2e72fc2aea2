"""`focal-loss mine`: a queue on a terminal, or as a file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson
from rich.console import Console

from service.cli.console import add_row, class_name, fail, number, percent, table
from service.schema.replies.queues import QueuePage, QueueRow

N = TypeVar("N", int, float)
COLUMNS = ("rank", "id", "target", "given", "suggested", "suggested_name", "strategy", "score", "loss", "p_t")


def pairs(text: str | None, option: str, kind: Callable[[str], N]) -> dict[str, N] | None:
    """`name=number`, several with commas between them."""
    if text is None:
        return None
    found = {}
    for part in text.split(","):
        name, sign, value = part.rpartition("=")
        try:
            found[name.strip()] = kind(value)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            fail(f"{option} {text}: name=number, several with commas between them")
    return found


def show_queue(queue: QueuePage, names: list[str] | None, console: Console) -> None:
    """Print what is to be looked at, in its order."""
    expected = queue["expected_yield"]
    shown = table(">rank", "id", "given -> suggested", ">p_t", ">loss", "reason", title=f"Queue {queue['name']}")
    for row in queue["rows"]:
        suggested = "" if row["suggested"] is None else f" -> {class_name(row['suggested'], names)}"
        labels = f"{class_name(row['target'], names)}{suggested}"
        add_row(shown, row["rank"], row["id"], labels, percent(row["p_t"]), number(row["loss"], 3), row["reason"])
    console.print(shown)
    console.print(
        f"{queue['num_rows']} of {queue['num_examples']} examples of epoch {queue['epoch']}; about "
        f"{expected['wrong_labels']:.0f} wrong labels among them. {expected['caveat']}",
        highlight=False,
        markup=False,
    )
    for warning in queue["warnings"]:
        console.print(f"Note: {warning}.", highlight=False, markup=False)


def write_rows(path: Path, queue: QueuePage, names: list[str] | None) -> None:
    """The rows as CSV or JSONL, or the whole queue as JSON."""
    try:
        match path.suffix.lower():
            case ".json":
                path.write_bytes(orjson.dumps(queue, option=orjson.OPT_INDENT_2))
            case ".jsonl" | ".ndjson":
                path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in queue["rows"]))
            case ".csv":
                _write_csv(path, queue["rows"], names)
            case ending:
                fail(f"{path}: ending {ending!r} is none of .csv, .jsonl, .json; queue {queue['name']} is kept")
    except OSError as err:
        fail(f"{path}: {err}; queue {queue['name']} is kept", 1)


def _write_csv(path: Path, rows: list[QueueRow], names: list[str] | None) -> None:
    attributes = sorted({name for row in rows for name in row["attributes"]} - {*COLUMNS, "reason", "verdict"})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "reason", "verdict", *attributes], extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            suggested = None if row["suggested"] is None else class_name(row["suggested"], names)
            called = {"given": class_name(row["target"], names), "suggested_name": suggested}
            writer.writerow({**row["attributes"], **row, **called})
