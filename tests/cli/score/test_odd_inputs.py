"""Every reader takes odd data or refuses it with file, row and column; no command ends with a raw exception."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors

from service.cli.errors import CommandError
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.columns import ColumnNames
from service.cli.score.inputs import read_chunks
from service.cli.score.sources import find_sources
from service.formats.labels import ClassNames
from tests.cli.command import run
from tests.lanes import mostly_slow

LOGITS = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
LISTS = LOGITS.tolist()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow(**columns: Any) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def npz(**arrays: Any) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def score(path: Path, *words: Any) -> tuple[int, str]:
    """Exit status and messages of `focal-loss score`, which raises what it does not handle."""
    output = path.with_name("scored.jsonl")
    ended = run("score", path, "-o", output, "--local", "--device", "cpu", "--restart", *words)
    return ended.returncode, ended.stderr


def chunks(path: Path, names: list[str] | None = None, **options: Any) -> list[Chunk]:
    reading = Reading(ColumnNames(), 100, class_names=ClassNames(names) if names else None, **options)
    return list(read_chunks(find_sources([str(path)], None)[0], reading))


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


TENSOR = pa.FixedShapeTensorArray.from_numpy_ndarray(LOGITS)
VIEWS = pa.array(["a", "b"], pa.string_view())
TAKEN: dict[str, tuple[str, bytes, list[str | int]]] = {
    "tensor column": ("x.parquet", parquet(id=["a", "b"], logits=TENSOR, label=[0, 1]), ["a", "b"]),
    "uint64 ids": (
        "x.parquet",
        parquet(id=pa.array([2**64 - 1, 2**63 + 1], pa.uint64()), logits=LISTS, label=[0, 1]),
        [2**64 - 1, 2**63 + 1],
    ),
    "binary ids": ("x.parquet", parquet(id=[b"a", "ö".encode()], logits=LISTS, label=[0, 1]), ["a", "ö"]),
    "decimal ids": ("x.parquet", parquet(id=[Decimal(1), Decimal(2)], logits=LISTS, label=[0, 1]), [1, 2]),
    "dictionary ids": (
        "x.arrow",
        arrow(id=pa.array(["a", "b"]).dictionary_encode(), logits=LISTS, y=[0, 1]),
        ["a", "b"],
    ),
    "string views": ("x.arrow", arrow(id=VIEWS, logits=LISTS, y=[False, True]), ["a", "b"]),
    "large lists": (
        "x.arrow",
        arrow(ids=[1, 2], logits=pa.array(LISTS, pa.large_list(pa.float16())), y=[Decimal(0), Decimal(1)]),
        [1, 2],
    ),
    "integer logits": ("x.parquet", parquet(id=[1, 2], logits=[[1, 2], [2, 1]], label=[0.0, 1.0]), [1, 2]),
    "unsigned labels": ("x.npz", npz(id=np.array([1, 2], "u8"), logits=LOGITS, label=np.array([0, 1], "u8")), [1, 2]),
    "big-endian": (
        "x.npz",
        npz(id=np.array(["a", "b"]), logits=LOGITS.astype(">f4"), y=np.array([0, 1], ">i4")),
        ["a", "b"],
    ),
    "long double": ("x.npz", npz(id=np.array([b"a", b"b"]), logits=LOGITS.astype(np.longdouble), y=[0, 1]), ["a", "b"]),
    "columns of arrays": (
        "x.npz",
        npz(logit_1=LOGITS[:, 1], logit_0=LOGITS[:, 0], y=[False, True], id=np.array([2**64 - 1, 5], "u8")),
        [2**64 - 1, 5],
    ),
    "tensors of columns": (
        "x.safetensors",
        save_safetensors(
            {
                "logit_0": LOGITS[:, 0].copy(),
                "logit_1": LOGITS[:, 1].copy(),
                "y": np.array([0, 1]),
                "id": np.array([7, 8]),
            }
        ),
        [7, 8],
    ),
    "a JSON list": (
        "x.json",
        json.dumps(
            [{"id": "a", "logits": LISTS[0], "y": 0}, {"id": "b", "logits": LISTS[1], "y": True}], indent=1
        ).encode(),
        ["a", "b"],
    ),
    "lines in .json": (
        "x.json",
        b"\xef\xbb\xbf"
        + lines({"id": 2**64 - 1, "logits": LISTS[0], "y": "0"}, {"id": 5, "logits": LISTS[1], "y": 1.0}),
        [2**64 - 1, 5],
    ),
    "tabs": ("x.tsv", b"id\tlogit_0\tlogit_1\tlabel\na\t1\t2\t0\nb\t2\t1\t1.0\n", ["a", "b"]),
    "decimal commas": ("x.csv", b"id;logit_0;logit_1;label\n007;1,0;2,0;0\n8;2,0;1,0;true\n", ["007", "8"]),
}


@pytest.mark.parametrize("case", mostly_slow(TAKEN, quick=6))
def test_odd_data_are_taken(case: str, tmp_path: Path) -> None:
    name, content, ids = TAKEN[case]
    path = written(tmp_path, name, content)
    (chunk,) = chunks(path)
    assert chunk.logits.tolist() == LISTS
    assert chunk.targets.tolist() == [0, 1]
    assert chunk.ids == ids
    status, messages = score(path)
    assert status == 0, messages
    rows = [json.loads(line) for line in path.with_name("scored.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ids


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
FORMATS = {
    "parquet": parquet(id=["a", "b"], logits=LISTS, y=[0, 1]),
    "arrow": arrow(id=["a", "b"], logits=LISTS, y=[0, 1]),
    "csv": b"id,logit_0,logit_1,y\na,1,2,0\nb,2,1,1\n",
    "jsonl": lines(*({"id": name, "logits": row, "y": y} for name, row, y in zip("ab", LISTS, (0, 1), strict=True))),
    "npz": npz(id=np.array(["a", "b"]), logits=LOGITS, y=np.array([0, 1])),
    "safetensors": save_safetensors({"logits": LOGITS, "y": np.array([0, 1])}),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("ending", FORMATS)
def test_compressed_files_are_read(ending: str, compression: str, tmp_path: Path) -> None:
    compressed = COMPRESSIONS[compression](FORMATS[ending])
    path = written(tmp_path, f"x.{ending}.{compression}", compressed)
    assert [chunk.logits.tolist() for chunk in chunks(path)] == [LISTS]
    assert [source.path for source in find_sources([str(tmp_path)], None)] == [str(path)]
    path.write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(CommandError, match=path.name):
        chunks(path)


def test_concatenated_gzip_members_are_one_file(tmp_path: Path) -> None:
    start, end = FORMATS["csv"][:25], FORMATS["csv"][25:]
    path = written(tmp_path, "x.csv.gz", gzip.compress(start) + gzip.compress(end))
    assert [chunk.ids for chunk in chunks(path)] == [["a", "b"]]


REFUSED: dict[str, tuple[str, bytes, int, str]] = {
    "text labels": (
        "x.npz",
        npz(logits=LOGITS, label=np.array(["a", "1"])),
        3,
        "row 0, column 'label': 'a' is not a number",
    ),
    "text labels in CSV": ("x.csv", b"logit_0,logit_1,y\n1,2,0\n1,2,owl\n", 3, "row 1, column 'y': 'owl'"),
    "float ids": ("x.parquet", parquet(id=[1.0, 2.5], logits=LISTS, y=[0, 1]), 3, "row 0, column 'id': an id is"),
    "missing id": ("x.parquet", parquet(id=["a", None], logits=LISTS, y=[0, 1]), 3, "row 1, column 'id': an id is"),
    "bytes that are no text": (
        "x.parquet",
        parquet(id=[b"a", b"\xff"], logits=LISTS, y=[0, 1]),
        3,
        "row 1, column 'id'",
    ),
    "object ids": ("x.jsonl", lines({"id": {"a": 1}, "logits": [1, 2], "y": 0}), 3, "row 0, column 'id'"),
    "object labels": ("x.jsonl", lines({"logits": [1, 2], "y": {"a": 1}}), 3, "row 0, column 'y'"),
    "mixed lists": (
        "x.jsonl",
        lines({"logits": [1, 2], "y": [0, 1]}, {"logits": [1, 2], "y": 1}),
        3,
        "row 1, column 'y'",
    ),
    "a large label": ("x.parquet", parquet(logits=LISTS, y=pa.array([0, 2**63], pa.uint64())), 3, "row 1, column 'y'"),
    "a fraction": ("x.parquet", parquet(logits=LISTS, y=[0, 1.5]), 3, "row 1, column 'y': softmax targets are"),
    "two label columns": ("x.csv", b"logit_0,logit_1,y,label\n1,2,0,0\n", 2, "both 'label' and 'y'"),
    "a gap": ("x.npz", npz(logit_0=LOGITS[:, 0], logit_2=LOGITS[:, 1], y=[0, 1]), 2, "name the logits with --logits"),
    "a matrix tensor": (
        "x.arrow",
        arrow(logits=pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2, 2), np.float32)), y=[0, 1]),
        3,
        "column 'logits': a tensor of a row has one dimension",
    ),
    "matrices for each class": (
        "x.npz",
        npz(logit_0=LOGITS, logit_1=LOGITS, y=[0, 1]),
        3,
        "column 'logit_0': an array for",
    ),
    "no dimension": ("x.npz", npz(logits=np.float32(1), y=0), 3, "column 'logits': not an array"),
    "different lengths": ("x.npz", npz(logits=LOGITS, y=[0]), 3, "2 of 'logits', 1 of 'y'"),
    "complex logits": ("x.npz", npz(logits=LOGITS.astype(complex), y=[0, 1]), 3, "column 'logits': complex128"),
    "boolean logits": ("x.npz", npz(logits=LOGITS > 1, y=[0, 1]), 3, "column 'logits': bool is not a number"),
    "text logits": ("x.npz", npz(logits=np.array([["a", "b"]]), y=[0]), 3, "column 'logits': object is not a number"),
    "dates": ("x.npz", npz(logits=LOGITS, y=np.array(["2024", "2025"], "M8[D]")), 3, "column 'y': datetime64[D]"),
    "pickled objects": ("x.npz", npz(logits=LOGITS, y=np.array([{}, []], object)), 3, "x.npz"),
    "no rows in JSONL": ("x.jsonl", b"\n\n", 3, "no rows"),
    "an empty file": ("x.csv", b"", 2, "name the logits"),
    "an empty Parquet file": ("x.parquet", b"", 3, "x.parquet"),
    "deep JSON": ("x.jsonl", b'{"logits": ' + b"[" * 100_000, 3, "row 0: not JSON"),
    "a JSON list of numbers": ("x.json", b"[1, 2]", 3, "row 0: not a JSON object"),
    "a row less": ("x.csv", b"logit_0,logit_1,y\n1,2\n", 3, "row 0: Expected 3 columns, got 2"),
    "latin-1": ("x.csv", "id,logit_0,logit_1,y\né,1,2,0\n".encode("latin-1"), 3, "row 0"),
    "an unknown extension": ("x.xlsx", b"", 2, "unknown extension '.xlsx'"),
    "an unknown compression": ("x.csv.rar", b"", 2, "unknown extension '.rar'"),
}


@pytest.mark.parametrize("case", mostly_slow(REFUSED, quick=10))
def test_an_error_names_the_file_and_the_place(case: str, tmp_path: Path) -> None:
    name, content, expected, says = REFUSED[case]
    status, messages = score(written(tmp_path, name, content))
    assert (status, name in messages, says in messages) == (expected, True, True), messages


EMPTY: dict[str, bytes] = {
    "x.csv": b"id,logit_0,logit_1,y\n",
    "x.parquet": parquet(
        id=pa.array([], pa.string()), logits=pa.array([], pa.list_(pa.float32())), y=pa.array([], pa.int64())
    ),
    "x.npz": npz(logits=np.zeros((0, 3)), y=np.zeros(0, int)),
    "x.json": b"[]",
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_without_rows(name: str, tmp_path: Path) -> None:
    status, messages = score(written(tmp_path, name, EMPTY[name]))
    assert status == (3 if name == "x.json" else 0), messages
    assert "0 examples" in messages or "no rows" in messages


@pytest.mark.parametrize("mode", mostly_slow(["softmax", "sigmoid"], quick=1))
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"logit_0,logit_1,y\n1,2,cat\n2,1,big dog\n1,2,1\n"),
        ("x.jsonl", lines(*({"logits": [1, 2], "y": y} for y in ("cat", "big dog", 1)))),
        ("x.npz", npz(logits=LOGITS[[0, 1, 0]], y=np.array(["cat", "big dog", "1"]))),
        ("x.parquet", parquet(logits=[*LISTS, [1.0, 2.0]], y=["cat", "big dog", "1"])),
    ],
)
def test_labels_may_be_class_names(name: str, content: bytes, mode: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, content)
    (chunk,) = chunks(path, ["cat", "big dog"], whole_targets=mode == "softmax")
    assert chunk.targets.tolist() == [0, 1, 1]
    if mode == "softmax":
        assert score(path, "--class-names", "cat,big dog")[0] == 0
        status, messages = score(path, "--class-names", "cat,dog")
        assert status == 3
        assert "row 1, column 'y': 'big dog' is not the name of a class; similar are 'dog'" in messages


def test_a_separator_and_an_encoding_can_be_declared(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", "id;logit_0;logit_1;y\né;1,5;2;0\n".encode("cp1252"))
    assert score(path, "--separator", "semicolon", "--encoding", "windows-1252")[0] == 0
    assert json.loads((tmp_path / "scored.jsonl").read_text())["id"] == "é"
    assert score(path, "--separator", "colon")[0] == 2
    assert score(path, "--encoding", "klingon")[0] == 2


def test_ids_of_different_types_become_texts(tmp_path: Path) -> None:
    written(tmp_path, "a.csv", b"id,logit_0,logit_1,y\n007,1,2,0\n")
    written(tmp_path, "b.parquet", parquet(id=[7], logits=LISTS[:1], y=[1.0]))
    written(tmp_path, "c.parquet", parquet(id=pa.array([2**64 - 1], pa.uint64()), logits=LISTS[:1], y=[1.0]))
    status, messages = score(tmp_path / "*.[cp]*")
    assert status == 0, messages
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["007", "7", "18446744073709551615"]
    written(tmp_path, "d.parquet", parquet(logits=LISTS[:1], y=[1]))
    status, messages = score(tmp_path / "*.[cp]*")
    assert (status, "only some of the files have ids" in messages) == (2, True)


@given(data=st.data())
@pytest.mark.parametrize("ending", mostly_slow([*FORMATS, "csv.gz", "parquet.zst"], quick=4))
def test_damaged_files_are_errors_or_are_read(
    ending: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind, _, compression = ending.partition(".")
    content = bytearray(COMPRESSIONS[compression](FORMATS[kind]) if compression else FORMATS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    end = data.draw(st.none() | st.integers(0, len(content)))
    path = written(tmp_path_factory.getbasetemp(), f"damaged.{ending}", bytes(content[:end]))
    try:
        chunks(path)
    except CommandError as err:
        assert "damaged" in str(err)  # noqa: PT017 - a file that can still be read is fine
