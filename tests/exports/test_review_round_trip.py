"""Everything that `export` writes is read back to the verdicts that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.codecs.base import DecodeOptions
from service.exports.elements import RowElements
from service.exports.fiftyone import image_key
from service.exports.formats import FORMATS
from service.exports.review_files import file_reviews, row_reader
from service.exports.row_verdicts import RowVerdict
from service.exports.rows import ExportOptions, ExportRow
from service.runs.manifest import RunDescription
from service.schema.replies.exports import ExportFormatName
from service.schema.structure import LABEL_CLASSES, Task
from tests.exports.examples import PLAIN, options, whole
from tests.exports.read_rows import members_of
from tests.exports.structured_examples import WHOLE, unit

LIMITS = DecodeOptions(max_bytes=10_000_000, max_rows=1_000)
WRITTEN = ("ok", "wrong", "unsure", "exclude", "conflict", None)
texts = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    | st.text("'=+-@\t\r\n\0\",;1.e\uff1d ", min_size=1, max_size=5)
    | st.from_regex(r"[0-9]{1,20}|[A-Za-z0-9+/]{4}={1,2}|[-+]?[0-9]{1,3}(\.[0-9]+)?(e[0-9])?", fullmatch=True)
    | st.sampled_from(["", "true", "TRUE", "nan", "NA", "null", "None", "1,5", "\ufeffid", "conflict"]).filter(bool)
)
names = st.none() | st.lists(texts, min_size=2, max_size=4, unique=True)
# Names that reviews and exports use themselves.
attributes = st.dictionaries(
    st.sampled_from(["id", "verdict", "label", "comment", "reviewer", "queue", "unit", "units", "data", "annotations"])
    | texts,
    texts | st.lists(st.integers(0, 9), max_size=2),
    max_size=3,
)


@st.composite
def verdicts(draw: st.DrawFn, labels: Sequence[str]) -> RowVerdict:
    """A verdict as it is exported."""
    verdict = draw(st.sampled_from(WRITTEN))
    if verdict is None:
        return RowVerdict()
    label = draw(st.none() | st.sampled_from(labels))
    return RowVerdict(verdict, label, draw(st.none() | texts), draw(texts))


def expected(row: ExportRow | Any, verdict: RowVerdict, labels: Sequence[str], name: Any = None) -> list[Any]:
    """The review that a row is read as; none without a verdict, or with one that nobody gives."""
    if verdict.verdict in (None, "conflict"):
        return []
    review: dict[str, object] = {"id": row.id, "verdict": verdict.verdict}
    if verdict.verdict_label is not None:
        review["label"] = labels.index(verdict.verdict_label)
    if verdict.comment is not None:
        review["comment"] = verdict.comment
    if name is not None:
        review["unit"] = name
    return [(review, verdict.review)]


def read(
    name: ExportFormatName, rows: Sequence[ExportRow], exported: ExportOptions, names: Sequence[str] | None
) -> list[Any]:
    written, task = FORMATS[name], exported.task
    content = whole(written.write(rows, exported))
    config = {"mode": "sigmoid"} if task == "multi_label" else {}
    description = RunDescription.parse(
        {"config": config, "task": task} | ({} if names is None else {"class_names": names})
    )
    media_type = written.media_type if written.media_type != "application/json" else "application/x-ndjson"
    found = file_reviews(row_reader(media_type)(memoryview(content), LIMITS), description, {})
    assert found.left_out == len(rows) - len({review.row for review in found.reviews})
    return [(members_of(review), review.seen) for review in found.reviews]


@given(st.data(), names, st.lists(texts, min_size=1, max_size=4, unique_by=str.strip))
@pytest.mark.parametrize("name", FORMATS)
def test_examples_are_read_back(
    name: ExportFormatName, data: st.DataObject, class_names: list[str] | None, ids: list[str]
) -> None:
    labels = class_names or ["0", "1", "2"]
    exported = options(total=len(ids), class_names=None if class_names is None else tuple(class_names))
    rows, reviews = [], []
    for rank, identity in enumerate(ids, start=1):
        verdict = data.draw(verdicts(labels))
        row = replace(PLAIN, rank=rank, id=identity, attributes=data.draw(attributes), **verdict._asdict())
        rows.append(row)
        reviews += expected(row, verdict, labels)
    # FiftyOne tells images apart by their paths without extensions.
    assume(name != "fiftyone" or len({image_key(row, exported) for row in rows}) == len(rows))
    assert read(name, rows, exported, class_names) == reviews


UNITS: dict[Task, list[Any]] = {"multi_label": [0, 3], "tokens": [[0, 1], [2, 5]], "masks": [0, 7]}


@given(st.data(), st.lists(texts, min_size=4, max_size=4, unique=True))
@pytest.mark.parametrize("task", UNITS)
@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_units_in_tables_are_read_back(
    name: ExportFormatName, task: Task, data: st.DataObject, class_names: list[str]
) -> None:
    labels = LABEL_CLASSES if task == "multi_label" else class_names
    rows, reviews = [], []
    for rank, of_row in enumerate([*UNITS[task], None], start=1):
        verdict = data.draw(verdicts(labels))
        if of_row is None:
            verdict = verdict._replace(verdict_label=None)
        row = replace(WHOLE, rank=rank, unit=of_row, num_elements=1, box=[[2], [5]], **verdict._asdict())
        rows.append(row)
        reviews += expected(row, verdict, labels, of_row)
    assert read(name, rows, options(task=task, class_names=tuple(class_names)), class_names) == reviews


@given(st.data(), st.lists(texts, min_size=4, max_size=4, unique=True))
@pytest.mark.parametrize(
    ("name", "task"),
    [(name, task) for name in ("label-studio", "argilla") for task in UNITS if task in FORMATS[name].tasks],
)
def test_units_in_tools_are_read_back(
    name: ExportFormatName, task: Task, data: st.DataObject, class_names: list[str]
) -> None:
    labels = LABEL_CLASSES if task == "multi_label" else class_names
    of_example = data.draw(verdicts(labels))._replace(verdict_label=None)
    of_units = [data.draw(verdicts(labels)) for _ in UNITS[task]]
    units = [
        replace(unit(of_unit, [0], [1]), verdict=verdict)
        for of_unit, verdict in zip(UNITS[task], of_units, strict=True)
    ]
    shape = (8, 8) if task == "masks" else (8,)
    given_attributes = data.draw(attributes.filter(lambda found: not {"tokens", "text"} & found.keys()))
    row = replace(WHOLE, elements=RowElements(shape, tuple(units)), attributes=given_attributes, **of_example._asdict())
    reviews = expected(row, of_example, labels)
    for of_unit, verdict in zip(UNITS[task], of_units, strict=True):
        reviews += expected(row, verdict, labels, of_unit)
    assert read(name, [row], options(total=1, task=task, class_names=tuple(class_names)), class_names) == reviews
