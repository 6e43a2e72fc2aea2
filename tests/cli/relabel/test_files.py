"""A file that is written again: labels and three columns are new, and all else is as it was."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.errors import CommandError, DataError, UsageError
from service.cli.files import COMPRESSIONS, open_input
from service.cli.relabel.csv_records import read_records
from service.cli.relabel.relabel import relabel_file
from service.cli.relabel.rows import ColumnOptions, Relabeller
from service.formats.csv_dialect import Dialect
from tests.cli.relabel.fake_run import Rows, relabelled
from tests.cli.relabel.test_csv_records import STYLES
from tests.strategies import at_most, json_values

NAMES = ["cat", "dog", 'größe "x",;y']
RUN: Rows = {
    "0": (0, 1, "corrected", ["ada", "bob"]),
    "1": (0, 2, "corrected", ["=ada"]),
    "2": (1, None, "excluded", []),
    "3": (1, 1, "kept", ["ada"]),
    "4": (0, 0, "unreviewed", []),
}
GIVEN = ["cat", "cat", "dog", "dog", "cat", "unknown"]
USED = ["dog", NAMES[2], "", "dog", "cat", "unknown"]
STATUSES = ["corrected", "corrected", "excluded", "kept", "unreviewed", "unreviewed"]


def write(
    path: Path,
    output: Path,
    options: ColumnOptions | None = None,
    rows: Rows = RUN,
    *,
    names: list[str] | None = None,
    ignored: int | None = None,
    **others: Any,
) -> Relabeller:
    def relabel(relabeller: Relabeller) -> None:
        relabel_file(path, output, options or ColumnOptions(), relabeller, **others)

    return relabelled(rows, names or NAMES, relabel, ignored)


CELLS = st.text(st.sampled_from("ab ',;\"\t\n\r1="), max_size=6)


@given(texts=st.lists(st.tuples(CELLS, CELLS), min_size=6, max_size=6), data=st.data())
@at_most(50, deadline=None)
def test_only_the_labels_of_a_csv_change(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]], data: st.DataObject
) -> None:
    separator, (quoting, end) = data.draw(st.sampled_from(",;\t|")), data.draw(st.sampled_from(STYLES))
    encoding, mark = data.draw(
        st.sampled_from(
            [("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-be", codecs.BOM_UTF16_BE), ("cp1252", b"")]
        )
    )
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["before", "id", "label", "after"])
    writer.writerows(
        [before, number, label, after] for number, (label, (before, after)) in enumerate(zip(GIVEN, texts, strict=True))
    )
    text = file.getvalue() if data.draw(st.booleans()) else file.getvalue().removesuffix(end)
    folder = tmp_path_factory.mktemp("csv")
    (folder / "in.csv").write_bytes(mark + text.encode(encoding))
    declared = {"encoding": encoding} if encoding == "cp1252" else {}
    write(folder / "in.csv", folder / "out.csv", **declared)
    content = (folder / "out.csv").read_bytes()
    assert content.startswith(mark)
    written = content.removeprefix(mark).decode(encoding)
    dialect = Dialect(separator, spaces=False)
    before = list(read_records(iter(io.StringIO(text, newline="")), dialect))
    after = list(read_records(iter(io.StringIO(written, newline="")), dialect))
    for old, new in zip(before, after, strict=True):
        assert (new.cells[:2], new.cells[3], new.end) == (old.cells[:2], old.cells[3], old.end)
        assert new.cells[4] == old.cells[2] or old is before[0]
    rows = list(csv.DictReader(io.StringIO(written, newline=""), delimiter=separator))
    assert [row["label"] for row in rows] == USED
    assert [row["status"] for row in rows] == STATUSES
    assert [row["reviewers"] for row in rows] == ["ada, bob", "'=ada", "", "ada", "", ""]


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), min_size=6, max_size=6), data=st.data()
)
@at_most(50, deadline=None)
def test_only_the_labels_of_jsonl_change(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    separators = data.draw(st.sampled_from([(",", ":"), (" , ", " : "), (",\t", ": ")]))
    escaped, indent = data.draw(st.booleans()), data.draw(st.sampled_from(["", "  "]))
    objects = [
        {f"_{name}": value for name, value in row.items()} | {"label": label, "id": number, "nested": {"label": "x"}}
        for number, (label, row) in enumerate(zip(GIVEN, rows, strict=True))
    ]
    lines = [indent + json.dumps(value, separators=separators, ensure_ascii=escaped) for value in objects]
    folder = tmp_path_factory.mktemp("jsonl")
    (folder / "in.jsonl").write_text("\n\n".join(lines), "utf-8")
    write(folder / "in.jsonl", folder / "out.jsonl")
    written = (folder / "out.jsonl").read_text("utf-8").split("\n\n")
    for line, value, label, new, status in zip(written, objects, GIVEN, USED, STATUSES, strict=True):
        found = json.loads(line)
        assert found == value | {
            "label": new or None,
            "given_label": label,
            "status": status,
            "reviewers": found["reviewers"],
        }
    # A row whose label stays keeps its text up to the added members.
    assert written[4].startswith(lines[4][:-1])


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.int8(), pa.float64()],
    ids=str,
)
def test_only_the_labels_of_parquet_change(tmp_path: Path, kind: pa.DataType) -> None:
    is_text = kind not in (pa.int8(), pa.float64())
    labels = GIVEN if is_text else [0, 0, 1, 1, 0, 9]
    value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = pa.array(labels, value_type)
    table = pa.table(
        {
            "id": pa.array(range(6), pa.uint16()),
            "label": column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column,
            "vector": pa.array([[0.5, None], [], None, [1.0], [2.0], [3.0]], pa.list_(pa.float32())),
            "status": ["own"] * 6,
        },
        metadata={"owner": "ada"},
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=4, compression="gzip")
    write(tmp_path / "in.parquet", tmp_path / "out.parquet")
    read = pq.ParquetFile(tmp_path / "out.parquet")
    written = read.read()
    for name in ("id", "vector", "status"):
        assert written[name].equals(table[name])
    assert written.schema.names == [*table.schema.names, "given_label", "review_status", "reviewers"]
    assert written.schema.field("label").type == table.schema.field("label").type
    assert written["given_label"].to_pylist() == labels
    used = [name or None for name in USED] if is_text else [1, 2, None, 1, 0, 9]
    assert written["label"].to_pylist() == used
    assert written["review_status"].to_pylist() == STATUSES
    assert (read.num_row_groups, written.schema.metadata[b"owner"]) == (2, b"ada")
    assert read.metadata.row_group(0).column(0).compression == "GZIP"


@pytest.mark.parametrize("extension", COMPRESSIONS)
def test_a_compressed_file_is_written_as_its_extension_says(tmp_path: Path, extension: str) -> None:
    (tmp_path / "a.csv").write_text("id,label\n0,cat\n")
    write(tmp_path / "a.csv", tmp_path / f"b.csv{extension}")
    with open_input(tmp_path / f"b.csv{extension}") as file:
        assert file.read().splitlines()[1:] == [b'0,dog,cat,corrected,"ada, bob"']


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    content = b"id,label\n0,cat\n2,dog\n"
    path.write_bytes(gzip.compress(content))
    relabeller = write(path, path)
    assert gzip.decompress(path.read_bytes()) == (
        b'id,label,given_label,status,reviewers\n0,dog,cat,corrected,"ada, bob"\n2,,dog,excluded,\n'
    )
    assert (relabeller.counts, relabeller.num_unknown) == ({"corrected": 1, "excluded": 1}, 0)
    # Once more: the labels are those to use already.
    write(path, path)
    assert gzip.decompress(path.read_bytes()).splitlines()[1] == (
        b'0,dog,cat,corrected,"ada, bob",dog,corrected,"ada, bob"'
    )
    assert [file.name for file in tmp_path.iterdir()] == ["data.csv.gz"]


def test_rows_can_be_numbered_and_columns_named(tmp_path: Path) -> None:
    path, output = tmp_path / "data.csv", tmp_path / "out.csv"
    path.write_text("sep=;\nclass;label;text\n0;x;a\n\n0;y;b\n1;z;c")
    write(path, output, ColumnOptions(label="class", number_rows=True))
    assert output.read_text() == (
        "sep=;\nclass;label;text;given_label;status;reviewers\n1;x;a;0;corrected;ada, bob\n\n2;y;b;0;corrected;'=ada\n"
        ";z;c;1;excluded;"
    )


def test_bytes_that_are_no_utf_8_are_copied(tmp_path: Path) -> None:
    path, output = tmp_path / "data.csv", tmp_path / "out.csv"
    path.write_bytes(b"id,label,text\n0,cat,\xff\xfe\n\xff,cat,x\n")
    assert write(path, output).num_unknown == 1
    assert output.read_bytes().splitlines()[1:] == [
        b'0,dog,\xff\xfe,cat,corrected,"ada, bob"',
        b"\xff,cat,x,cat,unreviewed,",
    ]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (
            "a.csv",
            "id,label\n0,cat\n1,dog\n",
            DataError,
            "row 1, column 'label': 'dog' is not the label of this example",
        ),
        ("a.csv", "id,label\n0,cat,x\n", DataError, "row 0: 3 values, the header has 2 names"),
        ("a.csv", 'id,label\n0,"cat\n', DataError, "never closed"),
        ("a.csv", "text,label\n", UsageError, "no column id: name it with --id"),
        ("a.csv", "id,text\n", UsageError, "name the column with --label"),
        (
            "a.jsonl",
            '{"id": 0, "label": "cat"}\n{"id": 1, "label": 7}\n',
            DataError,
            "row 1, column 'label': '7' is not",
        ),
        ("a.jsonl", '{"id": 0, "label": "cat"}\n[1]\n', DataError, "row 1: not a JSON object"),
        ("a.jsonl", '{"id": 0, "label": "cat"} {}\n', DataError, "row 0: not a JSON object"),
        ("a.jsonl", '{"id": 0.5, "label": "cat"}\n', DataError, "an id is a string or an integer"),
        ("a.parquet", "PAR1", DataError, "a.parquet"),
        ("a.txt", "", UsageError, "unknown extension"),
        ("missing.csv", None, UsageError, "No such file"),
    ],
)
def test_an_error_names_the_place_and_leaves_no_file(
    tmp_path: Path, name: str, content: str | None, error: type[CommandError], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    output = tmp_path / f"out{Path(name).suffix}"
    output.write_text("old")
    with pytest.raises(error, match=message):
        write(tmp_path / name, output)
    assert output.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == (1 if content is None else 2)


LISTS: Rows = {
    "0": ([0, None, 1], [0, None, 2], "corrected", ["ada"]),
    "1": ([1, 1], [1, None], "unsure", []),
    "2": ([0], None, "excluded", []),
    "3": ([0, 1], [0, 1], "unreviewed", []),
}


def test_lists_of_labels_keep_their_form_in_jsonl(tmp_path: Path) -> None:
    path, output = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    labels = ['["cat", -100, 1]', '["dog", "dog"]', "[0]", '["cat",  "dog"]']
    path.write_text("".join(f'{{"id": {row}, "labels": {text}}}\n' for row, text in enumerate(labels)))
    write(path, output, rows=LISTS, ignored=-100)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["labels"] for row in rows] == [["cat", -100, 2], ["dog", "-100"], [-100], ["cat", "dog"]]
    assert [row["given_label"] for row in rows] == [json.loads(text) for text in labels]
    # What is corrected already is the same again.
    write(output, path, rows=LISTS, ignored=-100)
    assert [json.loads(line)["labels"] for line in path.read_text().splitlines()] == [row["labels"] for row in rows]


@pytest.mark.parametrize("kind", [pa.int8(), pa.float32()], ids=str)
def test_nested_labels_keep_their_type_in_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    masks = {str(row): ([[0, 1], [2, 0]], [[0, 1], [1, 0]], "corrected", []) for row in range(2)}
    column = pa.array([masks["0"][0]] * 2, pa.list_(pa.list_(kind)))
    pq.write_table(pa.table({"id": ["0", "1"], "label": column}), tmp_path / "a.parquet")
    write(tmp_path / "a.parquet", tmp_path / "b.parquet", rows=masks)
    written = pq.read_table(tmp_path / "b.parquet")["label"]
    assert (written.type, written.to_pylist()) == (column.type, [masks["0"][1]] * 2)


@pytest.mark.parametrize("label", ["[0, -100]", "[0, -100, 2, 1]", "0", "[1, -100, 1]"])
def test_other_lists_than_in_the_run_are_errors(tmp_path: Path, label: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": 0, "labels": {label}}}\n')
    with pytest.raises(DataError, match=r"row 0, column 'labels': .* is not the label of this example"):
        write(tmp_path / "a.jsonl", tmp_path / "b.jsonl", rows=LISTS)


def test_a_label_that_the_encoding_lacks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\n0,cat\n")
    with pytest.raises(DataError, match="can't encode"):
        write(tmp_path / "a.csv", tmp_path / "b.csv", names=["cat", "\u732b"], encoding="iso-8859-1")
