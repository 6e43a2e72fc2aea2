"""Whatever `export` writes is read back as the same verdicts, also after a spreadsheet has saved the file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.exports.class_texts import ClassTexts
from service.exports.review_rows import COLUMNS, NEEDED, ReviewFields, read_reviews
from service.exports.row_files import Row, csv_rows, json_rows, parquet_rows
from service.exports.rows import ExportRow
from service.exports.tables import write_csv, write_jsonl, write_parquet
from service.formats.columns import ColumnError
from tests.exports.examples import PLAIN, options, whole

FORMATS: dict[str, tuple[Any, Callable[[bytes], Any]]] = {
    "csv": (write_csv, lambda content: csv_rows(content, NEEDED)),
    "jsonl": (write_jsonl, json_rows),
    "parquet": (write_parquet, lambda content: parquet_rows(content, COLUMNS)),
}
texts = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    | st.text("'=+-@\t\r\n\0\",;1.e\uff1d ", min_size=1, max_size=5)
    | st.from_regex(r"[0-9]{1,20}|[A-Za-z0-9+/]{4}={1,2}|[-+]?[0-9]{1,3}(\.[0-9]+)?(e[0-9])?", fullmatch=True)
    | st.sampled_from(["", "true", "TRUE", "nan", "NA", "null", "None", "1,5", "\ufeffid"]).filter(bool)
)
names = st.none() | st.lists(texts, min_size=2, max_size=4, unique=True)


def reviews(rows: Sequence[Row], class_names: Sequence[str] | None = None) -> list[ReviewFields]:
    return [review for _, review in read_reviews(rows, class_names)]


@given(st.data(), names, st.lists(texts, min_size=1, max_size=4, unique=True))
@pytest.mark.parametrize("name", FORMATS)
def test_every_export_is_read_back(
    name: str, data: st.DataObject, class_names: list[str] | None, ids: list[str]
) -> None:
    labels = class_names or ["0", "1", "2"]
    exported: list[ExportRow] = []
    expected: list[ReviewFields] = []
    for rank, identity in enumerate(ids, start=1):
        verdict = data.draw(st.sampled_from(["ok", "wrong", "unsure", None]))
        label = data.draw(st.none() | st.integers(0, len(labels) - 1)) if verdict else None
        text = None if label is None else labels[label]
        exported.append(replace(PLAIN, rank=rank, id=identity, verdict=verdict, verdict_label=text))
        if verdict is not None:
            expected.append({"id": identity, "verdict": verdict} | ({} if label is None else {"label": label}))  # type: ignore[arg-type]
    write, read = FORMATS[name]
    content = whole(write(exported, options(class_names=class_names)))
    assert reviews(list(read(content)), class_names) == expected


def saved_by_a_spreadsheet(content: bytes, delimiter: str, encoding: str, line_end: str) -> bytes:
    """The file with another separator, encoding and line end, an empty column and empty rows at the end."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([*([*row, ""] for row in rows), [""] * len(rows[0]), []])
    return text.getvalue().encode(encoding)


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [(",", "utf-8"), (",", "utf-8-sig"), (";", "utf-8-sig"), ("\t", "utf-16"), ("\t", "utf-8"), ("|", "utf-8")],
)
def test_a_file_that_a_spreadsheet_saved_is_read_back(delimiter: str, encoding: str, line_end: str) -> None:
    exported = [
        replace(PLAIN, id='=1;"a",\t|', verdict="wrong", verdict_label="größe, 中"),
        replace(PLAIN, rank=2, id="00017", verdict="ok"),
        replace(PLAIN, rank=3, id="c"),
    ]
    content = saved_by_a_spreadsheet(whole(write_csv(exported, options())), delimiter, encoding, line_end)
    assert reviews(list(csv_rows(content, NEEDED)), ["cat", "größe, 中"]) == [
        {"id": '=1;"a",\t|', "verdict": "wrong", "label": 1},
        {"id": "00017", "verdict": "ok"},
    ]


@pytest.mark.parametrize(
    ("value", "class_names", "index"),
    [
        ("dog", ["cat", "dog"], 1),
        (" dog ", ["cat", "dog"], 1),
        ("2", ["1", "2", "3"], 1),
        ("2", ["1", "3", "2"], 2),
        ("1", ["cat", "dog"], 1),
        ("1.0", ["cat", "dog"], 1),
        ("1", None, 1),
        (1, ["1", "2"], 1),
        (1.0, None, 1),
        ("TRUE", ["false", "true"], 1),
        ("true", ["TRUE", "true"], 1),
        ("1", ["1.0", "2.0"], 0),
        ("2", ["01", "02"], 1),
        ("1E+05", ["100", "1e5"], 1),
    ],
)
def test_a_class_is_found_by_name_then_by_number(value: object, class_names: list[str] | None, index: int) -> None:
    assert ClassTexts(class_names).find(value) == index


@pytest.mark.parametrize(
    ("value", "class_names", "says"),
    [
        ("owl", ["cat"], "'owl' is not the name of a class; the names are 'cat'"),
        ("owl", None, "no class names"),
        ("Dog", ["dog"], "'Dog' is not the name of a class"),
        ("1.5", None, "'1.5' is not the number of a class"),
        ("-1", None, "'-1' is not the number of a class"),
        (1.5, None, "'1.5' is not the number of a class"),
        (True, ["a", "b"], "'True' is not the name of a class"),
        ([1], None, "is not the number of a class"),
        ("True", ["TRUE", "true"], "may be 'TRUE' or 'true'"),
        ("1", ["1.0", "01"], "may be '1.0' or '01'"),
    ],
)
def test_other_values_are_no_class(value: object, class_names: list[str] | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClassTexts(class_names).find(value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"verdict": "ok"}, "row 1: a review needs an id"),
        ({"id": "", "verdict": "ok"}, "row 1: a review needs an id"),
        ({"id": "a", "verdict": "yes"}, "row 1, column 'verdict': 'yes' is not one of ok, wrong, unsure"),
        ({"id": "a", "verdict": "wrong", "label": "owl"}, "row 1, column 'label': 'owl' is not the name of a class"),
        ({"id": 1.5, "verdict": "ok"}, "row 1, column 'id': an id is a string or an integer, got 1.5"),
        ({"id": True, "verdict": "ok"}, "row 1, column 'id': an id is a string or an integer, got true"),
        ({"id": b"\xff", "verdict": "ok"}, "row 1, column 'id': an id of bytes is UTF-8"),
        ({"id": "7", "rank": 2, "verdict": "ok"}, "row 1, column 'id': '7' is also the id of rank 1"),
        ({"annotation_id": 1, "id": 5, "verdict": "ok"}, "column 'annotation_id': this is a table of Label Studio"),
        ({"id": 414, "external_id": "1513", "verdict": "ok"}, "row 1, column 'external_id': this is a table of Label"),
    ],
)
def test_an_error_names_row_column_and_value(row: dict[str, object], says: str) -> None:
    with pytest.raises(ColumnError) as caught:
        reviews([{"id": "7", "rank": 1, "verdict": "ok"}, row], ["cat"])
    text = f"{caught.value.place}: {caught.value.msg}"
    assert re.search(says, text), text


def test_values_of_a_row() -> None:
    rows: list[Row] = [
        {"id": "a", "verdict": " OK "},
        {"id": 2**64 - 1, "verdict": "wrong", "label": 1.0, "verdict_label": 0},
        {"id": b"b", "verdict": "wrong", "label": None, "verdict_label": 1},
        {"ids": Decimal(5), "verdict": "unsure", "comment": 7, "reviewer": "kim", "queue": ""},
        {"id": "c", "verdict": None},
        {"id": "d", "verdict": float("nan")},
        {},
    ]
    assert reviews(rows) == [
        {"id": "a", "verdict": "ok"},
        {"id": "18446744073709551615", "verdict": "wrong", "label": 1},
        {"id": "b", "verdict": "wrong", "label": 1},
        {"id": "5", "verdict": "unsure", "comment": "7", "reviewer": "kim"},
    ]


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (FORMATS["csv"][1], b"id,verdict\na,ok,x\n", "row 0: 3 values, the header has 2 names"),
        (FORMATS["csv"][1], b"id,verdict,verdict\na,ok,ok\n", "column 'verdict': two columns"),
        (FORMATS["csv"][1], b"id,verdict\n\xe4,ok\n", "can't decode byte 0xe4"),
        (FORMATS["csv"][1], b'id,verdict\n"a"b,ok\n', "row 0: ',' expected"),
        (json_rows, b'{"id": "a"}\n{"id"\n', "row 1: not JSON"),
        (json_rows, b'[{"id": "a"}, 5]', "row 1: not a JSON object"),
        (FORMATS["parquet"][1], b"PAR1", "Parquet"),
    ],
)
def test_a_damaged_file_is_named_by_its_row(read: Any, content: bytes, says: str) -> None:
    with pytest.raises(ColumnError) as caught:
        list(read(content))
    assert says in f"{caught.value.place}: {caught.value.msg}"


def test_json_may_be_a_list_a_queue_or_lines() -> None:
    rows = [{"id": "a", "verdict": "ok"}, {"id": "b", "verdict": "ok"}]
    lines = "\ufeff" + "\n\n".join(map(json.dumps, rows))
    for document in (json.dumps(rows, indent=1), json.dumps({"name": "q", "rows": rows}), lines):
        assert list(json_rows(document.encode())) == rows
    assert list(json_rows(json.dumps(rows[0]).encode())) == rows[:1]


@pytest.mark.parametrize("unit", [3, [2, 5], None])
@pytest.mark.parametrize("name", FORMATS)
def test_units_of_an_export_are_read_back(name: str, unit: Any) -> None:
    write, read = FORMATS[name]
    given = replace(PLAIN, unit=unit, num_elements=1, box=[[2], [5]], verdict="wrong", verdict_label="present")
    content = whole(write([given, replace(given, unit=7, rank=2)], options(task="multi_label", class_names=None)))
    expected: dict[str, object] = {"id": PLAIN.id, "verdict": "wrong", "label": 1}
    found = [review for _, review in read_reviews(read(content), None, "multi_label")]
    assert found == [expected if unit is None else expected | {"unit": unit}, expected | {"unit": 7}]


@pytest.mark.parametrize(
    ("value", "unit"),
    [("3", 3), ("3.0", 3), (3.0, 3), ("[2,5]", [2, 5]), ("[2, 5]", [2, 5]), ([2, 5], [2, 5]), ("beach", "beach")],
)
def test_a_unit_as_a_spreadsheet_leaves_it(value: object, unit: object) -> None:
    rows = [{"id": "a", "verdict": "ok", "unit": value}]
    assert [review.get("unit") for _, review in read_reviews(rows, None, "tokens")] == [unit]
    assert ["unit" in review for _, review in read_reviews(rows, None)] == [False]


@pytest.mark.parametrize("value", ["[1]", "[1,2,3]", "2.5", "{}", '["a", 1]', float("inf")])
def test_other_values_are_no_unit(value: object) -> None:
    rows = [{"id": "a", "verdict": "ok", "unit": value}]
    with pytest.raises(ColumnError, match="no label, span"):
        list(read_reviews(rows, None, "tokens"))
