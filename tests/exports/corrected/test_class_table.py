"""The rows of a corrected data set: statuses, labels, order, and attributes in columns of their own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.exports.corrected.class_table import class_table
from service.exports.corrected.decisions import reviewed_decisions
from service.exports.corrected.files import FORMATS
from service.exports.corrected.table import Layout
from service.exports.options import export_options
from service.queries.view import View
from tests.exports.corrected.standings import review, verdicts
from tests.lanes import mostly_slow
from tests.runs.temp_runs import TempRuns, temp_runs
from tests.strategies import at_most

REVIEWS = verdicts(
    {
        "7": review("ada", "ok"),
        "10": review("ada", "wrong", 2, comment="=a bird"),
        "007": review("ada", "wrong", 0),
        "b": review("ada", "exclude"),
        "a": review(None, "unsure"),
        "of another run": review("ada", "ok"),
    }
)
IDS = ["b", "10", "a", "7", "007", "-3", "=1+1"]
STATUSES = [
    ("-3", "cat", 0, "unreviewed", None),
    ("007", "cat", 0, "kept", "ada"),
    ("7", "cat", 0, "kept", "ada"),
    ("10", "bird", 2, "corrected", "ada"),
    ("=1+1", "cat", 0, "unreviewed", None),
    ("a", None, None, "unsure", None),
    ("b", None, None, "excluded", "ada"),
]


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as store:
        yield store


def put(runs: TempRuns, ids: list[str], attributes: dict[str, list[Any]] | None = None, **others: Any) -> None:
    runs.put(np.float32([[1, 0, 0]] * len(ids)), [0] * len(ids), ids, attributes=attributes, **others)


def written(runs: TempRuns, name: str, reviews: Any = REVIEWS, *, attributes: bool = True) -> bytes:
    def write(view: View) -> bytes:
        file = io.BytesIO()
        table = class_table(view, reviewed_decisions(reviews), Layout(attributes, FORMATS[name].flat))
        FORMATS[name].write(file, table, export_options(view, None, 0, 0))
        return file.getvalue()

    return runs.ask(write)


def json_rows(runs: TempRuns, **others: Any) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in written(runs, "jsonl", **others).splitlines()]


def test_rows_have_the_label_to_use_and_a_status(runs: TempRuns) -> None:
    runs.create(class_names=["cat", "dog", "bird"])
    put(runs, IDS)
    rows = json_rows(runs)
    names = ("id", "label", "label_index", "status")
    assert [(*(row[name] for name in names), (row["reviewers"] or [None])[0]) for row in rows] == STATUSES
    assert {(row["given_label"], row["given_label_index"]) for row in rows} == {("cat", 0)}
    assert [row["comment"] for row in rows if row["comment"]] == ["=a bird"]


def test_without_class_names_labels_are_numbers(runs: TempRuns) -> None:
    runs.create()
    put(runs, IDS)
    rows = json_rows(runs)
    assert [row["label"] for row in rows] == [index for _, _, index, _, _ in STATUSES]
    assert written(runs, "csv").splitlines()[4] == b'"10",2,2,0,0,"corrected","ada","\'=a bird"'


def test_an_example_of_several_epochs_has_what_was_sent_last(runs: TempRuns) -> None:
    runs.create(class_names=["cat", "dog", "bird"])
    put(runs, ["a", "only before"], {"text": ["old", "kept"]})
    runs.put(np.float32([[1, 0, 0]]), [1], ["a"], epoch=1, attributes={"text": ["new"]})
    rows = json_rows(runs, reviews={})
    assert [(row["id"], row["given_label"], row["text"]) for row in rows] == [
        ("a", "dog", "new"),
        ("only before", "cat", "kept"),
    ]


@pytest.mark.parametrize("name", mostly_slow(FORMATS, quick=1))
def test_the_bytes_do_not_depend_on_the_split_into_batches(name: str) -> None:
    ids = [str(number) for number in range(20_000)]

    def content(*parts: list[str]) -> list[bytes]:
        with temp_runs() as runs:
            runs.create(class_names=["cat", "dog", "bird"])
            for number, part in enumerate(parts):
                put(runs, part, {"text": [f"text {identity}" for identity in part]}, batch=f"b{number}")
            return [written(runs, name) for _ in range(2)]

    assert len({*content(ids), *content(ids[15_000:], ids[:100], ids[100:15_000])}) == 1


def test_a_run_without_rows_has_a_file_without_rows(runs: TempRuns) -> None:
    runs.create(class_names=["cat", "dog", "bird"])
    assert written(runs, "jsonl") == b""
    assert written(runs, "label-studio") == b"[\n]\n"
    assert written(runs, "csv").count(b"\n") == 1


def test_attributes_named_like_other_columns_are_renamed(runs: TempRuns) -> None:
    runs.create()
    attributes = {"label": ["x"], "status": [1], "id": ["y"], "attribute_id": ["z"], "comment": [None], "A": [1]}
    put(runs, ["7"], {**attributes, "a": [2]})
    (row,) = json_rows(runs)
    assert {name: value for name, value in row.items() if name.startswith("attribute_")} == {
        "attribute_id": "z",
        "attribute_attribute_id": "y",
        "attribute_label": "x",
        "attribute_status": 1,
    }
    assert (row["A"], row["a"], row["label"], row["status"]) == (1, 2, 0, "kept")
    assert "A" not in json_rows(runs, attributes=False)[0]


def test_more_attributes_than_columns_are_refused(runs: TempRuns) -> None:
    runs.create()
    for batch in range(2):
        names = [f"{batch}-{number}" for number in range(600)]
        put(runs, [str(batch)], {name: ["x"] for name in names}, batch=f"b{batch}")
    with pytest.raises(InvalidRequestError, match="more than 1000 different attributes"):
        written(runs, "csv")
    assert written(runs, "csv", attributes=False).count(b"\n") == 3


PAIRS = pa.list_(pa.list_(pa.int64()))


# Values of an attribute, and the type of its column; None if there is none.
TYPES: tuple[tuple[list[Any], pa.DataType | None], ...] = (
    (["a", "", None], pa.string()),
    ([None, None, None], None),
    ([1, -2, None], pa.int64()),
    ([1, 2**64 - 1, None], pa.uint64()),
    ([-1, 2**64 - 1, None], pa.string()),
    ([1, 0.5, None], pa.float64()),
    ([2**53 + 1, 0.5, None], pa.string()),
    ([True, None, False], pa.bool_()),
    ([["a"], [], None], pa.list_(pa.string())),
    ([[[0, 1]], [], None], PAIRS),
    ([[[0, -1]], [[2, 3]], None], PAIRS),
    ([[[0, 2**64 - 1]], [[2, 3]], None], pa.string()),
    (["a", 1, None], pa.string()),
    ([["a"], [[0, 1]], None], pa.string()),
)


def test_a_column_has_the_type_of_all_its_values(runs: TempRuns) -> None:
    runs.create()
    put(runs, ["0", "1", "2"], {f"x{number:02}": values for number, (values, _) in enumerate(TYPES)})
    schema = pq.read_schema(io.BytesIO(written(runs, "parquet", {})))
    rows = json_rows(runs, reviews={})
    for number, (values, kind) in enumerate(TYPES):
        name = f"x{number:02}"
        assert [row.get(name) for row in rows] == values
        # Without the names that the items of lists have.
        found = re.sub(r"<\w+: ", "<", str(schema.field(name).type)) if name in schema.names else None
        assert found == (kind and re.sub(r"<\w+: ", "<", str(kind)))


VALUES = (
    st.text(max_size=4),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-5, 5)).map(list), max_size=2),
)
COLUMNS = st.sampled_from(VALUES).flatmap(lambda values: st.lists(st.none() | values, min_size=4, max_size=4))
MIXED = st.lists(st.none() | st.one_of(*VALUES), min_size=4, max_size=4)


@given(attributes=st.dictionaries(st.text(max_size=3), COLUMNS | MIXED, max_size=4))
@at_most(30, deadline=None)
def test_attributes_come_out_as_they_were_sent(attributes: dict[str, list[Any]]) -> None:
    with temp_runs() as runs:
        runs.create()
        put(runs, ["0", "1", "2", "3"], attributes)
        for number, row in enumerate(json_rows(runs, reviews={})):
            for name, values in attributes.items():
                found = row.get(f"attribute_{name}", row.get(name))
                assert found == values[number], (name, values)
                assert isinstance(found, bool) == isinstance(values[number], bool)


@pytest.mark.slow
@given(texts=st.lists(st.none() | st.text(st.sampled_from('a",\r\n\t=é '), max_size=6), min_size=3, max_size=3))
@at_most(30, deadline=None)
def test_csv_keeps_every_text(texts: list[str | None]) -> None:
    with temp_runs() as runs:
        runs.create()
        put(runs, ["0", "1", "=2"], {"text": texts})
        content = written(runs, "csv", {}).decode()
        rows = list(csv.DictReader(io.StringIO(content, newline="")))
        assert [row["id"] for row in rows] == ["0", "1", "=2"]
        if any(text is not None for text in texts):
            assert [row["text"] for row in rows] == [text or "" for text in texts]
