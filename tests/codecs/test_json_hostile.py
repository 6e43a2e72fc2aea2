"""Broken, misleading and malicious JSON bodies: each is rejected, and the error names the place."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.base import DecodeOptions
from service.codecs.json import MAX_OPTION_VALUES, MIN_SPLIT_BYTES, JsonCodec
from service.codecs.json_arrays import MAX_COUNTED
from service.codecs.json_size import MAX_TENSOR_VALUES
from service.errors import (
    DecodeError,
    InvalidConfigError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
    TooManyAttributesError,
    TooManyValuesError,
    UnknownOutputError,
)
from tests.codecs.outcomes import Stopwatch, error_of, outcome
from tests.codecs.splitting import bodies_split_from
from tests.lanes import mostly_slow
from tests.strategies import at_most, is_number, json_values

CODEC = JsonCodec()


# `test_json_split.py` compares the two in the quick lane too.
@pytest.fixture(
    autouse=True,
    scope="module",
    params=[pytest.param(MIN_SPLIT_BYTES, id="usual"), pytest.param(0, id="split", marks=pytest.mark.slow)],
)
def _split_arrays(request: pytest.FixtureRequest) -> Iterator[None]:
    with bodies_split_from(request.param):
        yield


VALID = {"logits": [[1, 2.5], [3, 4]], "targets": [0, 1], "ids": ["a", "b"], "config": {"alpha": [1, 2]}, "top_k": 1}


def locations(error: LossServiceError) -> list[list[str | int]]:
    return [item["loc"] for item in error.errors]


def error_of_text(text: str) -> LossServiceError:
    return error_of(CODEC, text.encode())


def with_tensors(logits: str = "[[1, 2], [3, 4]]", targets: str = "[0, 1]", more: str = "") -> str:
    return f'{{"logits": {logits}, "targets": {targets}{more}}}'


class TestNotJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"   ",
            b"\x00" * 64,
            b"{",
            b"nul",
            b"{}{}",
            b'{"logits": [[1, 2]], "targets": [0]} x',
            b'{"logits": [[1, 2]], "targets": [0],}',
            b'{"logits": [[1, 2],], "targets": [0]}',
            b'{"logits": [[1 2]], "targets": [0]}',
            b"{'logits': [[1, 2]], 'targets': [0]}",
            b'{"logits": [[01, 2]], "targets": [0]}',
            b'{"logits": [[+1, 2]], "targets": [0]}',
            b'{"logits": [[1., 2]], "targets": [0]}',
            b'{"logits": [[.5, 2]], "targets": [0]}',
            b'{"logits": [[0x1, 2]], "targets": [0]}',
            '{"logits": [[1, 2]], "targets": [0]}'.encode("utf-16"),
            b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
        ],
    )
    def test_body_is_malformed(self, body: bytes) -> None:
        assert isinstance(error_of(CODEC, body), DecodeError)

    @pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "nan", "1e400", "-1e400", "1" * 400])
    @pytest.mark.parametrize("place", ["logits", "targets", "gamma", "ids"])
    def test_numbers_outside_json_or_float64(self, literal: str, place: str) -> None:
        text = {
            "logits": with_tensors(logits=f"[[1, 2], [3, {literal}]]"),
            "targets": with_tensors(targets=f"[0, {literal}]"),
            "gamma": with_tensors(more=f', "config": {{"gamma": {literal}}}'),
            "ids": with_tensors(more=f', "ids": ["a", {literal}]'),
        }[place]
        assert isinstance(error_of_text(text), DecodeError)

    @pytest.mark.parametrize(
        "name", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\\ud800", b"\\udc00x"]
    )
    def test_text_that_is_not_unicode(self, name: bytes) -> None:
        assert isinstance(error_of(CODEC, b'{"logits": [[1, 2]], "targets": [0], "ids": ["%s"]}' % name), DecodeError)
        assert isinstance(error_of(CODEC, b'{"logits": [[1, 2]], "targets": [0], "%s": 1}' % name), DecodeError)

    def test_every_truncation(self) -> None:
        body = json.dumps(VALID).encode()
        CODEC.decode(bytearray(body))
        for length in range(len(body)):
            assert isinstance(error_of(CODEC, body[:length]), DecodeError), body[:length]

    @at_most(150, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
    def test_changed_bytes_are_rejected_or_another_request(self, changes: list[tuple[int, int]]) -> None:
        body = bytearray(json.dumps(VALID).encode())
        for position, value in changes:
            body[position % len(body)] = value
        got = outcome(CODEC, body)
        assert got.status in (400, 422) if isinstance(got, LossServiceError) else len(got.batches) == 1


class TestStructure:
    @pytest.mark.parametrize("body", ["[]", "null", "1", '"logits"', "true", '[{"logits": [[1, 2]], "targets": [0]}]'])
    def test_body_must_be_an_object(self, body: str) -> None:
        assert type(error_of_text(body)) is InvalidRequestError

    @pytest.mark.parametrize(
        ("body", "loc"),
        [
            ("{}", ["logits"]),
            ('{"targets": [0]}', ["logits"]),
            ('{"logits": [[1, 2]]}', ["targets"]),
            ('{"batches": [{}]}', ["batches", 0, "logits"]),
            ('{"batches": [{"logits": [], "targets": []}, {"logits": []}]}', ["batches", 1, "targets"]),
            ('{"batches": {}}', ["batches"]),
            ('{"batches": null}', ["batches"]),
            ('{"batches": [[]]}', ["batches", 0]),
            ('{"batches": [{"logits": [], "targets": []}, null]}', ["batches", 1]),
            ('{"batches": [], "logits": []}', ["logits"]),
            ('{"batches": [], "ids": []}', ["ids"]),
            (with_tensors(more=', "logit": 1'), ["logit"]),
            ('{"batches": [{"logits": [], "targets": [], "key": []}]}', ["batches", 0, "key"]),
            ('{"batches": [{"logits": [], "targets": [], "config": {}}]}', ["batches", 0, "config"]),
            (with_tensors(more=', "top_k": "3"'), ["top_k"]),
            (with_tensors(more=', "top_k": -1'), ["top_k"]),
            (with_tensors(more=', "top_k": true'), ["top_k"]),
            (with_tensors(more=', "top_k": 1.5'), ["top_k"]),
            (with_tensors(more=', "outputs": "loss"'), ["outputs"]),
            (with_tensors(more=', "outputs": [["loss"]]'), ["outputs", 0]),
            (with_tensors(more=', "outputs": {}'), ["outputs"]),
            (with_tensors(more=', "on_invalid": "skip"'), ["on_invalid"]),
            (with_tensors(more=', "config_id": 5'), ["config_id"]),
            (with_tensors(more=', "config_id": "fl_0", "config": {}'), ["config_id"]),
        ],
    )
    def test_error_names_missing_and_unknown_fields(self, body: str, loc: list[str | int]) -> None:
        error = error_of_text(body)
        assert error.code in ("invalid_request", "invalid_config")
        assert locations(error) == [loc]

    def test_codes_of_invalid_configurations_and_outputs(self) -> None:
        assert isinstance(error_of_text(with_tensors(more=', "config": {"gamma": -1}')), InvalidConfigError)
        assert isinstance(error_of_text(with_tensors(more=', "config": [[]]')), InvalidConfigError)
        assert isinstance(error_of_text(with_tensors(more=', "outputs": ["losses"]')), UnknownOutputError)

    @pytest.mark.parametrize("value", ["null", "3", '"[[1, 2]]"', "{}", '{"0": [1, 2]}', "true"])
    @pytest.mark.parametrize("part", ["logits", "targets", "ids"])
    def test_tensors_must_be_lists(self, part: str, value: str) -> None:
        fields = {"logits": "[[1, 2]]", "targets": "[0]", "ids": "[1]"} | {part: value}
        members = ", ".join(f'"{name}": {text}' for name, text in fields.items())
        for text in (f"{{{members}}}", f'{{"batches": [{{{members}}}]}}'):
            error = error_of_text(text)
            assert isinstance(error, InvalidIdsError if part == "ids" else InvalidRequestError)
            assert locations(error) == [["batches", 0, part]]

    @pytest.mark.parametrize(
        "body",
        [
            '{"logits": [[1, 2]], "logits": [[1, 2]], "targets": [0]}',
            '{"logits": [[1, 2]], "\\u006cogits": [[1, 2]], "targets": [0]}',
            '{"batches": [], "batches": []}',
            '{"batches": [{"logits": [], "targets": [], "targets": []}]}',
            '{"logits": [[1, 2]], "targets": [0], "top_k": 1, "top_k": 2}',
            '{"logits": [[1, 2]], "targets": [0], "config": {"gamma": 1, "gamma": 2}}',
            '{"batches": [], "config": {"alpha": {"class_counts": [1, 2], "class_counts": [3, 4]}}}',
        ],
    )
    def test_duplicate_name(self, body: str) -> None:
        error = error_of_text(body)
        assert isinstance(error, DecodeError)
        assert "twice" in error.detail

    def test_names_with_a_nul_are_unknown(self) -> None:
        assert locations(error_of_text(with_tensors(more=', "config\\u0000": {}'))) == [["config\0"]]
        assert locations(error_of_text(with_tensors(more=', "config": {"gamma\\u0000": 1}'))) == [["config", "gamma\0"]]
        body = '{"batches": [{"logits": [], "targets": [], "ids\\u0000": []}]}'
        assert locations(error_of_text(body)) == [["batches", 0, "ids\0"]]


class TestArrays:
    @pytest.mark.parametrize(
        "value", ["null", "true", "false", '"2"', '""', "[]", "[2]", "[[2]]", "{}", '{"a": 5}', '{"a": [5]}']
    )
    @pytest.mark.parametrize("batch", [0, 1])
    def test_logits_must_be_numbers(self, value: str, batch: int) -> None:
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1)):
            cells = [["1", "2"], ["3", "4"], ["5", "6"]]
            cells[row][column] = value
            logits = "[" + ", ".join(f"[{', '.join(cells_of_row)}]" for cells_of_row in cells) + "]"
            good = '{"logits": [[1, 2]], "targets": [0], "ids": ["["]}'
            bad = f'{{"logits": {logits}, "targets": [0, 1, 0]}}'
            error = error_of_text(f'{{"batches": [{", ".join([good] * batch + [bad])}]}}')
            assert isinstance(error, InvalidLogitError), (row, column)
            assert locations(error) == [["batches", batch, "logits", row, column]]
            assert f"batch {batch}, row {row}, column {column}: " in error.detail
            assert "is not a number" in error.detail

    @pytest.mark.parametrize("value", ["{}", '{"a": 1}', "[]", "[1]", "[1, 0]"])
    @pytest.mark.parametrize("row", [1, 2])
    def test_targets_are_no_lists_or_objects(self, value: str, row: int) -> None:
        targets = ["0", "1", "0"]
        targets[row] = value
        error = error_of_text(with_tensors("[[1, 2], [1, 2], [1, 2]]", f"[{', '.join(targets)}]"))
        assert isinstance(error, InvalidTargetError)
        assert locations(error) == [["batches", 0, "targets", row]]

    @pytest.mark.parametrize(
        ("part", "array", "loc"),
        [
            ("logits", "[[1, 2], [3]]", [1]),
            ("logits", "[[1, 2], [3, 4], [5, 6, 7]]", [2]),
            ("logits", "[[1, 2], []]", [1]),
            ("logits", "[[], [1]]", [1]),
            ("logits", "[[], 1]", [1]),
            ("logits", '[[], ""]', [1]),
            ("logits", "[[], {}]", [1]),
            ("logits", "[[1], true]", [1]),
            ("logits", "[[1, 2], 3]", [1]),
            ("logits", "[[1, 2], true]", [1]),
            ("logits", '[[1, 2], "34"]', [1]),
            ("logits", '[[1, 2], {"a": 1, "b": 2}]', [1]),
            ("targets", "[[0], 1]", [1]),
            ("targets", "[[0, 1], [0]]", [1]),
        ],
    )
    def test_ragged_rows(self, part: str, array: str, loc: list[int]) -> None:
        error = error_of_text(with_tensors(**{part: array}))
        assert isinstance(error, ShapeError)
        assert locations(error) == [["batches", 0, part, *loc]]

    @pytest.mark.parametrize(
        ("logits", "loc"),
        [
            ("[3, [1, 2]]", [1]),
            ("[3, []]", [1]),
            ("[3, [1]]", [1]),
            ("[null, 1]", [0]),
            ('[{"a": [1, 2]}]', [0]),
            # As many numbers as the shape asks for, one level down.
            ("[[[1, 2], [3, 4]]]", [0, 0]),
            ("[[[1], [2]], [[3], [4]]]", [0, 0]),
            ("[[1, [2]], [3, 4]]", [0, 1]),
            ("[[1, []], [3, 4]]", [0, 1]),
            ("[[1, [2, 3], []], [3, 4, 5]]", [0, 1]),
            ("[[1, 2], [3, [4]]]", [1, 1]),
            ("[[[], []], [1, 2]]", [0, 0]),
        ],
    )
    def test_nested_arrays_of_the_right_total_length(self, logits: str, loc: list[int]) -> None:
        for ids in ("", ', "ids": ["[", "]]"]'):
            error = error_of_text(with_tensors(logits=logits, more=ids))
            assert isinstance(error, InvalidLogitError)
            assert locations(error) == [["batches", 0, "logits", *loc]]

    @pytest.mark.parametrize("value", ["null", "true", "1.0", "1.5", "[]", "[1]", "{}", '{"a": [1]}'])
    def test_ids_must_be_strings_or_integers(self, value: str) -> None:
        error = error_of_text(with_tensors(more=f', "ids": ["a", {value}]'))
        assert isinstance(error, InvalidIdsError)
        assert locations(error) == [["batches", 0, "ids", 1]]

    @at_most(200, deadline=None)
    @given(st.data())
    def test_random_value_in_any_place(self, data: st.DataObject) -> None:
        rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
        logits: list[list[Any]] = [[float(row + column) for column in range(columns)] for row in range(rows)]
        row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        value = data.draw(json_values)
        logits[row][column] = value
        ids = data.draw(st.lists(st.text('[]{}",a', max_size=3), min_size=rows, max_size=rows))
        body = json.dumps({"targets": [0] * rows, "ids": ids, "logits": logits}).encode()
        if is_number(value):
            (batch,) = CODEC.decode(bytearray(body)).batches
            assert batch.logits.tolist() == logits
            assert batch.ids == ids
        else:
            error = error_of(CODEC, body)
            assert isinstance(error, InvalidLogitError)
            assert locations(error) == [["batches", 0, "logits", row, column]]

    @at_most(150, deadline=None)
    @given(logits=json_values, targets=json_values, ids=json_values)
    def test_random_value_as_tensor(self, logits: object, targets: object, ids: object) -> None:
        body = json.dumps({"logits": logits, "targets": targets, "ids": ids}).encode()
        got = outcome(CODEC, body)
        if isinstance(got, LossServiceError):
            assert got.status == 422
            assert got.errors
        else:
            (batch,) = got.batches
            assert (batch.logits.tolist(), batch.targets.tolist(), batch.ids) == (logits, targets, ids)

    @at_most(150, deadline=None)
    @given(json_values)
    def test_random_value_as_body(self, value: object) -> None:
        error_of(CODEC, json.dumps(value).encode())


class TestBounds:
    """Limits of the time and memory that a small body can take."""

    DEPTHS = (64, 400, 900, 1000, 1020, 2000, 100_000)

    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    @pytest.mark.parametrize("place", ["logits", "targets", "ids", "config", "outputs", "batches", "unknown"])
    def test_nesting(self, place: str, opening: str, closing: str) -> None:
        for depth in self.DEPTHS:
            deep = opening * depth + "1" + closing * depth
            fields = {"logits": "[[1, 2]]", "targets": "[0]"} if place != "batches" else {}
            fields[place] = f"[{deep}]" if place == "ids" else deep
            error_of_text("{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}")

    def test_unclosed_nesting(self) -> None:
        for opening in ("[", '{"a":', '{"logits":['):
            assert isinstance(error_of_text(opening * 100_000), DecodeError)

    @pytest.mark.parametrize(
        "where", mostly_slow(["{%s}", '{"config": {%s}, "batches": []}', '{"batches": [{%s}]}'], quick=1)
    )
    def test_time_is_linear_in_the_number_of_names(self, where: str) -> None:
        names = ", ".join(f'"k{number}": 0' for number in range(200_000))
        with Stopwatch() as watch:
            error_of_text(where % names)
            error_of_text(where % f'{names}, "z": 1, "z": 2')
        # A lookup in the parsed object for each name takes minutes, counting each name in a list a quarter of an hour.
        assert watch.seconds < 10

    def test_too_many_attributes_are_rejected_before_their_values_are_read(self) -> None:
        members = ",".join(f'"a{number}": []' for number in range(200_000))
        body = bytearray(f'{{"logits": [[0, 1]], "targets": [0], "attributes": {{{members}}}}}'.encode())
        with Stopwatch() as watch, pytest.raises(TooManyAttributesError):
            CODEC.decode(body, DecodeOptions(with_attributes=True))
        # Each value by its name takes ten seconds.
        assert watch.seconds < 2

    def test_too_many_option_values_are_rejected_early(self) -> None:
        body = bytearray(b'{"batches": [], "config": {"alpha": [' + b"0," * MAX_OPTION_VALUES + b"0]}}")
        error = error_of(CODEC, bytes(body))
        assert type(error) is InvalidRequestError
        assert str(MAX_OPTION_VALUES) in error.detail

    @pytest.mark.parametrize(("value", "count"), [(b"[]", MAX_TENSOR_VALUES // 2), (b"null", MAX_TENSOR_VALUES)])
    def test_too_many_values_that_are_no_plain_numbers_are_rejected(self, value: bytes, count: int) -> None:
        body = bytearray(b'{"logits": [[0, 1]], "targets": [' + b",".join([value] * count) + b"]}")
        error = error_of(CODEC, bytes(body))
        assert type(error) is TooManyValuesError
        assert str(MAX_TENSOR_VALUES) in error.detail

    @pytest.mark.parametrize("place", ['"x": [%s]', '"ids": [%s]', '"x": {"a": [%s]}'])
    def test_rejected_value_allocates_little(self, place: str) -> None:
        body = bytearray((with_tensors()[:-1] + ", " + place % ", ".join(["[]"] * 200_000) + "}").encode())
        tracemalloc.start()
        try:
            with pytest.raises(InvalidRequestError):
                CODEC.decode(body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # 200 000 empty lists take 11 MB.
        assert peak < 2_000_000

    def test_array_longer_than_simdjson_counts(self) -> None:
        count = MAX_COUNTED + 5
        body = bytearray(b'{"targets": [], "logits": [' + b"0," * (count - 1) + b"0]}")
        (batch,) = CODEC.decode(body).batches
        assert batch.logits.shape == (count,)
