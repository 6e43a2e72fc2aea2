"""A queue as a table on the terminal, and as a file for reviewers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

import orjson
from rich.console import Console

from service.cli.console import add_row, class_name, number, percent, table
from service.cli.runs.unit_places import unit_text
from service.schema.replies.queues import LeasedRows, QueuePage, QueueRow
from service.schema.replies.runs import Run
from service.schema.structure import review_classes

COLUMNS = ("rank", "id", "target", "given", "suggested", "suggested_name", "strategy", "score", "loss", "p_t", "reason")
# Only of structured runs, after the id.
UNIT_COLUMNS = ("unit", "unit_text", "num_elements", "box")
# The reviewer fills these in, except for the id of the last review that the verdict follows from.
REVIEW_COLUMNS = ("verdict", "label", "comment", "review")
EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json")


def show_rows(title: str, rows: Sequence[QueueRow], run: Run, console: Console) -> None:
    """Print rows of a queue as a table."""
    task, names = run["task"], run["class_names"]
    classes = review_classes(task, names)
    is_structured = task != "classification"
    columns = (">rank", "id", *(["unit"] if is_structured else []), "label -> suggested", ">p_t", ">loss", "reason")
    shown = table(*columns, title=title)
    for row in rows:
        suggested = "" if row["suggested"] is None else f" -> {class_name(row['suggested'], classes)}"
        place = [row["id"], *([unit_text(row, task, names)] if is_structured else [])]
        numbers = percent(row["p_t"]), number(row["loss"], 3)
        add_row(shown, row["rank"], *place, f"{class_name(row['target'], classes)}{suggested}", *numbers, row["reason"])
    console.print(shown)


def show_queue(queue: QueuePage, run: Run, console: Console) -> None:
    """Print the rows of a queue by rank, and its expected yield."""
    show_rows(f"Queue {queue['name']}", queue["rows"], run, console)
    is_structured = run["task"] != "classification"
    expected = queue["expected_yield"]
    lines = [
        *([queue["chosen"]["why"]] if "chosen" in queue else []),
        f"{queue['num_rows']} {'rows from' if is_structured else 'of'} {queue['num_examples']} examples of epoch "
        f"{queue['epoch']}; about "
        f"{expected['wrong_labels']:.0f} wrong labels among them. {expected['caveat']}",
        *(f"Note: {warning}." for warning in queue["warnings"]),
    ]
    console.print("\n".join(lines), highlight=False, markup=False)


def queue_bytes(queue: QueuePage | LeasedRows, run: Run, extension: str) -> bytes:
    """Format a queue, or leased rows of one, for a file with one of the EXTENSIONS.

    `.json` has the whole reply, the others its rows.
    """
    if extension == ".json":
        return orjson.dumps(queue, option=orjson.OPT_INDENT_2)
    if extension == ".csv":
        return _csv_text(queue["rows"], run).encode()
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in queue["rows"])


def _csv_text(rows: Sequence[QueueRow], run: Run) -> str:
    """The rows as CSV: an attribute with the name of another column is called `attribute_<name>`."""
    from service.exports.review_rows import COLUMNS as READ_BY_REVIEW
    from service.exports.rows import rename_reserved
    from service.formats.spreadsheets import guard_cell

    columns = COLUMNS if run["task"] == "classification" else (*COLUMNS[:2], *UNIT_COLUMNS, *COLUMNS[2:])
    # `review` reads the column of units of structured runs only.
    reserved = {*REVIEW_COLUMNS, *READ_BY_REVIEW.known} - {*UNIT_COLUMNS} | {*columns}
    given = [rename_reserved(row["attributes"], reserved) for row in rows]
    names = [*columns, *REVIEW_COLUMNS, *sorted({name for attributes in given for name in attributes})]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(guard_cell, names))
    for row, attributes in zip(rows, given, strict=True):
        cells = dict(_cells(row, run)) | {name: _cell(value) for name, value in attributes.items()}
        writer.writerow(guard_cell(cells.get(name)) for name in names)
    return text.getvalue()


def _cells(row: QueueRow, run: Run) -> Iterator[tuple[str, object]]:
    """The columns of a row; lists become JSON texts."""
    members: Mapping[str, object] = row
    yield from members.items()
    classes = review_classes(run["task"], run["class_names"])
    for column, label in (
        ("given", row["target"]),
        ("suggested_name", row["suggested"]),
        ("label", row["verdict_label"]),
    ):
        yield column, None if label is None else class_name(label, classes)
    if run["task"] != "classification":
        yield "unit_text", unit_text(row, run["task"], run["class_names"])
        for column in ("unit", "box"):
            yield column, _cell(members[column])


def _cell(value: object) -> object:
    return orjson.dumps(value).decode() if isinstance(value, list) else value
