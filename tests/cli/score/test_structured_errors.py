"""Rows of many elements that are invalid: errors name file, row and element; options that do not fit each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from service.cli.errors import DataError
from service.errors import TooManyRegionsError
from service.schema.request import Batch
from tests.cli.score.structured_files import write
from tests.cli.score.test_structured import MASKS, TOKENS, assert_scores, command, evaluated, lines, score
from tests.lanes import mostly_slow


def with_token(place: int, part: str, value: float) -> Batch:
    parts = {"logits": TOKENS.logits.copy(), "targets": TOKENS.targets.copy()}
    parts[part][place] = value
    return Batch(parts["logits"], parts["targets"], offsets=TOKENS.offsets)


def with_pixel(part: str, value: float) -> Batch:
    parts = {"logits": MASKS.logits.copy(), "targets": MASKS.targets.copy()}
    parts[part][(4, 2, 1, 3) if part == "logits" else (4, 1, 3)] = value
    return Batch(parts["logits"], parts["targets"])


@pytest.mark.parametrize("ending", mostly_slow(["arrow", "jsonl", "safetensors"], quick=1))
@pytest.mark.parametrize(
    ("layout", "batch", "says"),
    [
        ("ragged", with_token(5, "targets", 9), "row 2, element 2: target 9 is outside [0, 4)"),
        ("ragged", with_token(6, "logits", np.inf), "row 3, element 0, column 0: logit +inf"),
        ("dense", with_pixel("targets", 7), "row 4, element [1, 3]: target 7 is outside [0, 3)"),
        ("dense", with_pixel("logits", np.nan), "row 4, element [1, 3], column 2: logit NaN"),
    ],
)
def test_an_error_names_row_and_element(tmp_path: Path, layout: str, batch: Batch, says: str, ending: str) -> None:
    path = write(tmp_path, ending, batch)
    with pytest.raises(DataError) as raised:
        score(path, tmp_path / "out.parquet", layout=layout)
    assert str(raised.value).startswith(f"{path}, {says}")
    excluded = score(path, tmp_path / "out.parquet", layout=layout, on_invalid="exclude")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert_scores(table, excluded, evaluated(batch, layout=layout, on_invalid="exclude"))
    assert excluded.num_excluded == 1


@pytest.mark.parametrize(
    ("offsets", "says"),
    [
        ([0, 4, 3, 7], "row 2, column 'offsets': offsets never fall, and 3 follows 4"),
        ([0, 3, 6], "row 2, column 'offsets': offsets end with the number of targets, 7, got 6"),
        ([1, 7], "row 0, column 'offsets': offsets begin with 0, got 1"),
        ([0.0, 7.0], "column 'offsets': offsets are integers (N + 1,), got float64"),
        (None, "the layout ragged needs an array offsets"),
    ],
)
def test_offsets_that_do_not_fit(tmp_path: Path, offsets: Any, says: str) -> None:
    parts = {"logits": TOKENS.logits, "targets": TOKENS.targets}
    np.savez(tmp_path / "rows.npz", **parts, **({} if offsets is None else {"offsets": np.array(offsets)}))
    status, messages = command(tmp_path / "rows.npz", "--layout", "ragged")
    assert (status, says in messages) == (3, True), messages


ROW: dict[str, Any] = {"logits": [[1, 2], [3, 4]], "targets": [0, 1]}
REFUSED: dict[str, tuple[str, list[dict[str, Any]], int, str]] = {
    "fewer targets": (
        "ragged",
        [ROW, ROW, ROW, {**ROW, "targets": [0]}],
        3,
        "row 3: 1 targets for 2 elements of logits",
    ),
    "classes that differ": (
        "ragged",
        [ROW, ROW, {**ROW, "logits": [[1, 2], [3, 4, 5]]}],
        3,
        "row 2, element 1, column",
    ),
    "classes that differ in a later chunk": (
        "ragged",
        [ROW, ROW, {**ROW, "logits": [[1], [2]]}],
        3,
        "row 2, column 'logits': shape [1], in the rows before [2]",
    ),
    "a mask of another size": (
        "dense",
        [ROW | {"targets": [0]}] * 2 + [ROW | {"targets": [0, 1]}],
        3,
        "logits [2, 2, 2] do not fit targets [2, 1]",
    ),
    "lists that are not as deep": (
        "ragged",
        [ROW, {**ROW, "logits": [1, 2]}],
        3,
        "row 1, column 'logits': [1, 2] is not",
    ),
    "text among numbers": (
        "ragged",
        [ROW, ROW, {**ROW, "targets": [0, "cat"]}],
        3,
        "row 2, column 'targets': labels of",
    ),
    "a text that is no class": ("ragged", [ROW, {**ROW, "targets": ["0", "owl"]}], 3, "labels of a file"),
    "a missing label": (
        "ragged",
        [ROW, ROW, {**ROW, "targets": [0, None]}],
        3,
        "row 2, element 1, column 'targets': no",
    ),
    "a missing row": ("ragged", [ROW, ROW, {**ROW, "targets": None}], 3, "row 2, column 'targets': no value"),
    "no lists": ("dense", [{"logits": [1, 2], "targets": 0}], 3, "softmax mode takes logits (N, C, d1, ...)"),
    "a column for each class": ("dense", [{"logit_0": [1], "logit_1": [2], "targets": [0]}], 3, "one column of lists"),
}


@pytest.mark.parametrize("case", mostly_slow(REFUSED, quick=4))
def test_rows_that_do_not_fit(tmp_path: Path, case: str) -> None:
    layout, rows, expected, says = REFUSED[case]
    path = lines(tmp_path / "rows.jsonl", *rows)
    status, messages = command(path, "--layout", layout, "--batch-rows", 2)
    assert (status, "rows.jsonl" in messages, says in messages) == (expected, True, True), messages


@pytest.mark.parametrize(
    ("words", "says"),
    mostly_slow(
        [
            (["--layout", "columns"], "columns"),
            (["--divisor", "rows"], "divisor"),
            (["--divisor", "1,5"], "--divisor: '1,5' is not a number"),
            (["--divisor", "0"], "divisor"),
            (["--within", "median"], "within"),
            (["--within", "top_share=most"], "--within top_share=most: expected"),
            (["--within", "top_share=2"], "within"),
            (["--elements", "regions"], "unknown element output 'regions'"),
            (["--gamma-negative", "1"], "gamma_negative is for sigmoid mode"),
            (["--outputs", "prediction"], "an example of the layout ragged has no prediction"),
        ],
        quick=4,
    ),
)
def test_options_that_do_not_fit_are_usage_errors(tmp_path: Path, words: list[str], says: str) -> None:
    path = lines(tmp_path / "rows.jsonl", ROW)
    status, messages = command(path, "--layout", "ragged", *words)
    assert (status, says in messages) == (2, True), messages


def test_csv_files_have_plain_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("logit_0,logit_1,y\n1,2,0\n")
    status, messages = command(tmp_path / "rows.csv", "--layout", "dense")
    assert (status, "CSV has no nested lists, which the layout dense needs" in messages) == (2, True)


def test_names_of_classes_in_lists(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {**ROW, "targets": ["cat", "dog"]}, {**ROW, "targets": ["dog", "owl"]})
    status, messages = command(path, "--layout", "ragged", "--class-names", "cat,dog")
    assert (status, "row 1, element 1, column 'targets': 'owl' is not the name of a class" in messages) == (3, True)
    path = lines(tmp_path / "rows.jsonl", {**ROW, "targets": ["cat", "dog"]})
    assert command(path, "--layout", "ragged", "--class-names", "cat,dog", "--elements", "loss")[0] == 0
    assert json.loads((tmp_path / "scored.jsonl").read_text())["target"] == [0, 1]


def test_too_many_regions_name_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise TooManyRegionsError("ask for fewer of each example (top_regions)")

    monkeypatch.setattr("service.compute.evaluation.check_regions", refuse)
    status, messages = command(write(tmp_path, "npz", MASKS), "--layout", "dense", "--top-regions", 9)
    assert (status, "top_regions" in messages, "--batch-rows" in messages) == (2, True, True)
