"""CSV as spreadsheets, databases and people write it: one rule for separators, decimal marks, encodings and lists."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from service.codecs.base import DecodeOptions
from service.codecs.negotiation import reader
from service.errors import LossServiceError, UnsupportedMediaTypeError
from service.formats.column_names import ResolvedColumns
from service.formats.csv_rows import csv_rows, open_csv
from service.formats.labels import number_labels
from service.formats.targets import with_numeric_targets
from service.schema.request import Batch

LOGITS, LABELS, IDS = [[2.5, 0.125], [0.25, -2.0]], [0, 1], ["a", "b"]
COMMAS = "id,logit_0,logit_1,label\na,2.5,0.125,0\nb,0.25,-2,1\n"


def read(text: str | bytes, content_type: str = "text/csv") -> Batch:
    body = text.encode() if isinstance(text, str) else text
    (batch,) = (
        reader(content_type).decode(bytearray(body), DecodeOptions(with_attributes=True, max_bytes=2**24)).batches
    )
    return with_numeric_targets(batch, 0, "softmax")


SAME = {
    "commas": COMMAS,
    "CRLF": COMMAS.replace("\n", "\r\n"),
    "no line end": COMMAS.rstrip(),
    "quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in COMMAS.split()),
    "tabs": COMMAS.replace(",", "\t"),
    "pipes": COMMAS.replace(",", "|"),
    "semicolons and points": COMMAS.replace(",", ";"),
    "semicolons and decimal commas": COMMAS.replace(",", ";").replace(".", ","),
    "tabs and decimal commas": COMMAS.replace(",", "\t").replace(".", ","),
    "spaces": COMMAS.replace(",", ", "),
    "spaces and quotes": 'id, logit_0, logit_1, label\n"a", 2.5, "0.125", 0\nb, 0.25, -2, "1"\n',
    "spaces around names": COMMAS.replace("logit_0", " logit_0 ").replace("label", "label "),
    "spaces after many empty lines": COMMAS.replace(",", ", ").replace("\n", "\n" * 10_002, 1),
    "empty lines": COMMAS.replace("\n", "\n\n"),
    "separator line of Excel": "sep=;\n" + COMMAS.replace(",", ";"),
    "columns without a name": "id;logit_0;logit_1;label;;\na;2,5;0,125;0;;\nb;0,25;-2;1;;\n",
    "list of JSON": 'id,logits,label\na,"[2.5, 0.125]",0\nb,"[0.25, -2]",1\n',
    "list of Python in parentheses": 'id,logits,label\na,"(2.5, 0.125)",0\nb,"(0.25, -2)",1\n',
    "list of NumPy": "id,logits,label\na,[ 2.5    0.125],0\nb,[ 0.25 -2.  ],1\n",
    "list of NumPy on two lines": 'id,logits,label\na,"[2.5\n 0.125]",0\nb,"[0.25 -2.]",1\n',
    "list of PostgreSQL": 'id,logits,label\na,"{2.5,0.125}",0\nb,"{0.25,-2}",1\n',
    "list with semicolons": "id,logits,label\na,2.5;0.125,0\nb,0.25;-2,1\n",
    "list with spaces": "id,logits,label\na,2.5 0.125,0\nb,0.25 -2,1\n",
    "list without brackets": 'id,logits,label\na,"2.5, 0.125",0\nb,"0.25, -2",1\n',
    "list and decimal commas": 'id;logits;label\na;"2,5; 0,125";0\nb;"0,25; -2";1\n',
    "list in a file with semicolons": "id;logits;label\na;[2.5, 0.125];0\nb;[0.25, -2];1\n",
    "floats as labels": COMMAS.replace(",0\n", ",0.0\n").replace(",1\n", ",1.0\n"),
    "decimal commas as labels": COMMAS.replace(",", ";").replace(".", ",").replace(";0\n", ";0,0\n"),
    "booleans as labels": COMMAS.replace(",0\n", ",False\n").replace(",1\n", ",TRUE\n"),
}


@pytest.mark.parametrize("name", SAME)
def test_same_rows_in_every_dialect(name: str) -> None:
    batch = read(SAME[name])
    assert (batch.logits.tolist(), batch.targets.tolist(), batch.ids) == (LOGITS, LABELS, IDS)
    assert batch.logits.dtype == np.float64
    assert batch.attributes is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize("declared", [True, False])
def test_encodings(encoding: str, declared: bool) -> None:
    text = COMMAS.replace("b,", "bé,").replace("a,", "ä,")
    charset = f"; charset={encoding.removesuffix('-sig')}" if declared else ""
    body = text.encode(encoding)
    if declared or encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert read(body, f"text/csv{charset}").ids == ["ä", "bé"]
    else:
        with pytest.raises(LossServiceError, match=r"charset|UTF-16 without"):
            read(body)


def test_text_that_is_longer_than_a_block() -> None:
    lines = [f"é{number},{number % 7}.5,1,{number % 2}" for number in range(150_000)]
    body = "\n".join(["id,logit_0,logit_1,label", *lines]).encode("utf-16")
    batch = read(body)
    assert batch.ids == [line.split(",")[0] for line in lines]
    assert batch.logits[:, 0].tolist() == [number % 7 + 0.5 for number in range(150_000)]


def test_declared_separator() -> None:
    # Both a comma and a semicolon fit this line.
    text = "a;logits;y;b,logits,y\n1;2;0;3,2,0\n"
    with pytest.raises(LossServiceError, match="',' and ';' both fit the first line: declare one as the delimiter"):
        read(text)
    for name in ("semicolon", '";"', "SEMICOLON"):
        assert read(SAME["semicolons and points"], f"text/csv; delimiter={name}").logits.tolist() == LOGITS
    assert read(SAME["tabs"], "text/tab-separated-values; charset=utf-8").logits.tolist() == LOGITS
    with pytest.raises(LossServiceError, match="the columns are 'id,logit_0,logit_1,label'"):
        read(COMMAS, "text/tab-separated-values")


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("text/csv; charset=utf-7", "encoding 'utf-7' is not supported; known are utf-8, utf-16"),
        ("text/csv; charset=hex", "encoding 'hex'"),
        ("text/csv; delimiter=x", "separator 'x' is not supported; known are comma, semicolon, tab, pipe"),
    ],
)
def test_declarations_that_are_not_supported(content_type: str, says: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=says):
        reader(content_type)


@pytest.mark.parametrize(
    ("text", "says", "loc"),
    [
        ("logit_0;logit_1;y\n1,5;2;0\n1.5;2;0\n", "row 1, column 'logit_0': '1.5' has the decimal mark '.'", [1, 0]),
        ("logit_0;logit_1;y\n1.234,5;2;0\n", "row 0, column 'logit_0': '1.234,5' has the decimal mark", [0, 0]),
        ("logit_0;logit_1;y\n1,2;x;0\n", "row 0, column 'logit_1': 'x' is not a number", [0, 1]),
        ("logits,y\n[1 2],0\n[1 x],0\n", "row 1, column 'logits': 'x' is not a number", [1]),
        ("logits,y\n[1 2],0\n[1],0\n", "row 1, column 'logits': 1 values, row 0 has 2", [1]),
        ("logits,y\n[1 2],0\n,0\n", "row 1, column 'logits': no value", [1]),
        ("logits,y\n[1 2],0\n[],0\n", "row 1, column 'logits': '' is not a number", [1]),
        ("logit_0, logit_1, y\n1, 2, 0\n1, 2\n", "row 1: Expected 3 columns, got 2", []),
        ("logit_0, logit_1, y\n1, 2, 0\n1, 2\r3, 0\n", "line 2 after the header: new-line character", []),
    ],
)
def test_errors_name_the_row(text: str, says: str, loc: list[int]) -> None:
    with pytest.raises(LossServiceError) as caught:
        read(text)
    assert says in caught.value.detail
    assert not loc or caught.value.errors[0]["loc"][3:] == loc


def test_labels_in_a_list() -> None:
    body = bytearray(b'logits,labels\n"[0.5, 1, 2]","[0, 1, 1]"\n"[0.5, 1, 2]","[1, 0.5, 0]"\n')
    (batch,) = reader("text/csv").decode(body).batches
    assert number_labels(batch.targets).tolist() == [[0, 1, 1], [1, 0.5, 0]]


def test_cell_that_is_wider_than_the_default_limit_of_csv() -> None:
    note = "x" * 200_000
    assert read(f"y, logit_0, logit_1, note\n0, 1, 2, {note}\n").attributes == {"note": [note]}


def test_one_text_in_brackets_is_no_list() -> None:
    (batch,) = reader("text/csv").decode(bytearray(b"logit_0,logit_1,label\n1,2,[unknown]\n1,2,[pad]\n")).batches
    assert batch.targets.tolist() == ["[unknown]", "[pad]"]


class Slowly(io.RawIOBase):
    """A source that gives few bytes at a time, as a pipe does."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 7) if size >= 0 else 7)


@pytest.mark.parametrize("name", ["commas", "semicolons and decimal commas", "spaces and quotes", "list of JSON"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_source_that_gives_few_bytes_at_a_time(name: str, encoding: str) -> None:
    wanted: list[Any] = []
    for source in (Slowly(SAME[name].encode(encoding)), io.BytesIO(SAME[name].encode(encoding))):
        file = open_csv(source, lambda names: "label" in names)
        logits = ("logits",) if "logits" in file.header else ("logit_0", "logit_1")
        wanted.append([batch.to_pydict() for batch in csv_rows(file, ResolvedColumns(logits, "label", "id"))])
    assert wanted[0] == wanted[1]
    assert wanted[0][0]["id"] == IDS
