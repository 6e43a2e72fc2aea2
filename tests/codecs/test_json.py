"""`application/json`: decoded requests and encoded results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.codecs.base import DecodeOptions
from service.codecs.json import MIN_SPLIT_BYTES, JsonCodec
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import LossRequest
from service.schema.result import BatchResult, Excluded, HardExample, LossResult
from tests.codecs.outcomes import error_of
from tests.codecs.samples import result
from tests.codecs.splitting import bodies_split_from

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


def decode(fields: dict[str, Any] | str) -> LossRequest:
    return CODEC.decode(bytearray((fields if isinstance(fields, str) else json.dumps(fields)).encode()))


class TestDecode:
    def test_every_field(self) -> None:
        request = decode(
            {
                "config": {"alpha": [1, 2.5], "gamma": 0, "reduction": "sum"},
                "logits": [[0.5, -1], [2, 3e-5]],
                "targets": [1, 0],
                "ids": ["a", 7],
                "outputs": ["p_t"],
                "top_k": 3,
                "on_invalid": "exclude",
            }
        )
        options = request.options
        assert options.config == LossConfig(alpha=(1.0, 2.5), gamma=0.0, reduction="sum")
        assert options.config_id is None
        assert (options.outputs, options.top_k, options.on_invalid) == (("p_t",), 3, "exclude")
        (batch,) = request.batches
        assert batch.logits.dtype == np.float64
        assert batch.logits.tolist() == [[0.5, -1.0], [2.0, 3e-5]]
        assert batch.targets.dtype == np.int64
        assert batch.targets.tolist() == [1, 0]
        assert batch.ids == ["a", 7]

    def test_defaults(self) -> None:
        request = decode({"logits": [[1, 2]], "targets": [0]})
        options = request.options
        assert (options.config, options.config_id, options.top_k, options.on_invalid) == (None, None, 0, "error")
        assert options.outputs == ("loss", "contribution")
        assert request.batches[0].ids is None

    def test_config_id(self) -> None:
        assert decode({"config_id": "fl_0", "logits": [[1, 2]], "targets": [0]}).options.config_id == "fl_0"

    def test_batches_keep_their_order_and_their_ids(self) -> None:
        request = decode(
            {
                "batches": [
                    {"logits": [[1, 2]], "targets": [0], "ids": ["x"]},
                    {"logits": [], "targets": []},
                    {"targets": [1, 0], "logits": [[3, 4], [5, 6]], "ids": [1, 2]},
                ]
            }
        )
        assert [batch.logits.tolist() for batch in request.batches] == [[[1, 2]], [], [[3, 4], [5, 6]]]
        assert [batch.targets.tolist() for batch in request.batches] == [[0], [], [1, 0]]
        assert [batch.ids for batch in request.batches] == [["x"], None, [1, 2]]
        assert [batch.num_examples for batch in request.batches] == [1, 0, 2]

    def test_no_batches_at_all(self) -> None:
        assert decode({"batches": []}).batches == ()

    @pytest.mark.parametrize(
        ("logits", "shape"),
        [
            ("[]", (0,)),
            ("[[]]", (1, 0)),
            ("[[], []]", (2, 0)),
            ("[1]", (1,)),
            ("[1, 2, 3]", (3,)),
            ("[[1], [2]]", (2, 1)),
            ("[[1, 2, 3]]", (1, 3)),
        ],
    )
    def test_shapes(self, logits: str, shape: tuple[int, ...]) -> None:
        (batch,) = decode(f'{{"logits": {logits}, "targets": [0]}}').batches
        assert batch.logits.shape == shape
        assert batch.logits.dtype == np.float64

    @pytest.mark.parametrize(
        ("targets", "dtype"),
        [
            ("[0, 1]", np.int64),
            ("[-9223372036854775808, 9223372036854775807]", np.int64),
            ("[0, 0.5]", np.float64),
            ("[0.5, 0]", np.float64),
            ("[1.0, 0.0]", np.float64),
            ("[[0, 1], [1, 0.25]]", np.float64),
            ("[[0, 1], [1, -100]]", np.int64),
        ],
    )
    def test_targets_are_integers_if_all_values_are(self, targets: str, dtype: type[np.generic]) -> None:
        (batch,) = decode(f'{{"logits": [1, 2], "targets": {targets}}}').batches
        assert batch.targets.dtype == dtype
        assert batch.targets.tolist() == json.loads(targets)

    @pytest.mark.parametrize(
        "number", ["0", "-0.0", "1e-400", "5e-324", "1.7976931348623157e308", "9223372036854775808", "1E+2", "0.1"]
    )
    def test_logits_equal_float_of_python(self, number: str) -> None:
        (batch,) = decode(f'{{"logits": [[{number}, 1]], "targets": [0]}}').batches
        assert batch.logits[0, 0].item().hex() == float(json.loads(number)).hex()

    @pytest.mark.parametrize("identity", ["[[[[", "]]]]", '"[', "", "\u0000", "日本", "🙂", -(2**63), 2**64 - 1, 0])
    def test_ids_are_unchanged(self, identity: str | int) -> None:
        (batch,) = decode({"logits": [[1, 2], [3, 4]], "targets": [0, 1], "ids": [identity, "]"]}).batches
        assert batch.ids == [identity, "]"]
        assert batch.logits.tolist() == [[1, 2], [3, 4]]

    def test_tensors_stay_valid_after_the_body(self) -> None:
        body = bytearray(b'{"logits": [[1, 2], [3, 4]], "targets": [0, 1]}')
        (batch,) = CODEC.decode(body).batches
        body[:] = b" " * len(body)
        CODEC.decode(bytearray(b'{"logits": [[9, 9], [9, 9]], "targets": [9, 9]}'))
        assert batch.logits.tolist() == [[1, 2], [3, 4]]
        assert batch.targets.tolist() == [0, 1]
        batch.logits[:] += 1
        assert batch.logits.tolist() == [[2, 3], [4, 5]]

    def test_whitespace_and_order_do_not_matter(self) -> None:
        (batch,) = decode('\n\t{ "targets" :[0 ] ,\r\n"logits":\n[ [ 1 ,2]\n] } ').batches
        assert (batch.logits.tolist(), batch.targets.tolist()) == ([[1, 2]], [0])

    def test_class_weights_of_a_large_vocabulary(self) -> None:
        alpha = [1.0] * 300_000
        config = decode({"config": {"alpha": alpha}, "batches": []}).options.config
        assert config is not None
        assert config.alpha == tuple(alpha)


GOLDEN_REPLY = (
    b'{"config_id":"fl_0123456789abcdef","device":"cpu","loss":0.5,"num_examples":4,"num_ignored":1,"num_excluded":1,'
    b'"num_elements":2,"batches":[{"loss":0.5,"loss_sum":0.5,"alpha_sum":1.0,"num_examples":3,"num_ignored":1,"num_excluded":1,'
    b'"num_elements":1,"per_example":{"loss":[0.5,0.0,null],"p_t":[0.75,null,null],"prediction":[1,null,null]}},'
    b'{"loss":null,"loss_sum":0.25,"alpha_sum":0.0,"num_examples":1,"num_ignored":0,"num_excluded":0,'
    b'"num_elements":1,"per_example":{"loss":[0.25],"p_t":[0.125],"prediction":[0]}}],'
    b'"hardest":[{"batch":0,"index":0,"id":"a","loss":0.5,"contribution":0.5},'
    b'{"batch":1,"index":0,"loss":0.25,"contribution":0.25}],'
    b'"excluded":[{"batch":0,"index":2,"id":7,"code":"invalid_logit","msg":"NaN"}]}'
)


class TestEncode:
    def test_golden_bytes(self) -> None:
        assert CODEC.encode(result()) == GOLDEN_REPLY

    def test_floats_have_the_shortest_digits_of_their_dtype(self) -> None:
        values = np.array([0.1, 1e-45, 3.4028235e38], np.float32)
        wide = np.array([0.1, 5e-324, 1.7976931348623157e308])
        text = CODEC.encode(result(per_example={"loss": values, "el2n": wide}))
        got = json.loads(text)["batches"][0]["per_example"]
        assert b"[0.1,1e-45," in text
        assert got["el2n"] == wide.tolist()
        assert np.array(got["loss"], np.float32).tolist() == values.tolist()

    def test_non_finite_values_are_null(self) -> None:
        values = np.array([np.nan, np.inf, -np.inf, 1.0])
        got = json.loads(CODEC.encode(result(per_example={"log_odds": values})))
        assert got["batches"][0]["per_example"]["log_odds"] == [None, None, None, 1.0]

    def test_missing_predictions_of_labels_are_null(self) -> None:
        labels = np.array([[1, 0, -1], [-1, -1, -1], [0, 0, 0]])
        got = json.loads(CODEC.encode(result(per_example={"prediction": labels})))
        assert got["batches"][0]["per_example"]["prediction"] == [[1, 0, None], [None, None, None], [0, 0, 0]]

    def test_encoding_does_not_change_the_result(self) -> None:
        once = result()
        first = CODEC.encode(once)
        assert once.batches[0].per_example["prediction"].tolist() == [1, -1, -1]
        assert CODEC.encode(once) == first

    def test_id_is_absent_only_without_ids(self) -> None:
        empty = LossResult("fl_0", "cpu", None, 0, 0, 0, (), (), ())
        assert json.loads(CODEC.encode(empty)) == {
            "config_id": "fl_0",
            "device": "cpu",
            "loss": None,
            "num_examples": 0,
            "num_ignored": 0,
            "num_excluded": 0,
            "num_elements": 0,
            "batches": [],
            "hardest": [],
            "excluded": [],
        }
        zero = np.float32(0)
        named = LossResult(
            "fl_0",
            "cpu",
            None,
            0,
            0,
            0,
            (),
            (HardExample(0, 0, 0, zero, zero, 0.0), HardExample(0, 1, "", zero, zero, 0.0)),
            (Excluded(0, 2, None, "c", "m"),),
        )
        got = json.loads(CODEC.encode(named))
        assert [hard.get("id") for hard in got["hardest"]] == [0, ""]
        assert got["excluded"] == [{"batch": 0, "index": 2, "code": "c", "msg": "m"}]

    def test_an_empty_batch_has_empty_lists(self) -> None:
        nothing = {"loss": np.empty(0, np.float32), "prediction": np.empty(0, np.int64)}
        batch = BatchResult(None, 0.0, 0.0, 0, 0, 0, nothing)
        got = json.loads(CODEC.encode(LossResult("fl_0", "cpu", None, 0, 0, 0, (batch,))))
        assert got["batches"][0]["per_example"] == {"loss": [], "prediction": []}


def test_bracket_in_an_id_is_valid() -> None:
    body = (
        b'{"batches": [{"logits": [], "targets": [], "ids": []}, {"logits": [[0, 0]], "targets": [0], "ids": ["["]}]}'
    )
    _, batch = JsonCodec().decode(bytearray(body)).batches
    assert batch.ids == ["["]


@pytest.mark.parametrize(
    "fields",
    [
        {"logits": [[1, 2]], "targets": [0], "ids": ["["], "config": {"alpha": [1, 2]}, "outputs": ["p_t"]},
        {"logits": [[0.5], [1]], "targets": [[0.25], [1]], "config": {"mode": "sigmoid"}},
        {"logits": [[1, None]], "targets": [0], "on_invalid": "exclude"},
        {"batches": [{"logits": [], "targets": []}, {"logits": [0.5], "targets": [1]}]},
        {"logits": [[1, 2]], "targets": [0], "attributes": {"split": ["train"]}},
        {"logits": [[1, [2]]], "targets": [0]},
        {"logits": [[1, 2], [3]], "targets": [0, 1]},
        {"logits": [[1, 2]], "targets": ["a"]},
        {"logits": [[1, 2]], "targets": [0], "config": {"gamma": -1}},
        "[1",
        "[" * 2000,
    ],
)
def test_parser_is_reused_without_traces_of_the_last_request(fields: dict[str, Any] | str) -> None:
    codec, first = JsonCodec(), fields if isinstance(fields, str) else json.dumps(fields)
    outcomes: list[LossServiceError | LossRequest] = []
    for _ in range(3):
        try:
            outcomes.append(codec.decode(bytearray(first.encode()), DecodeOptions(with_attributes=True)))
        except LossServiceError as err:
            outcomes.append(err)
        request = codec.decode(bytearray(b'{"logits": [[3, 4], [5, 6]], "targets": [1, 0]}'))
        assert request.batches[0].logits.tolist() == [[3, 4], [5, 6]]
    first_outcome, *others = (vars(item) if isinstance(item, LossServiceError) else tensors(item) for item in outcomes)
    assert all(other == first_outcome for other in others)


def tensors(request: LossRequest) -> list[Any]:
    return [(repr(batch.logits.tolist()), batch.targets.tolist(), batch.ids) for batch in request.batches]


def test_two_names_of_a_part_name_the_batch() -> None:
    good, bad = '{"logits":[[1,2]],"y":[0]}', '{"logits":[[1,2]],"y":[0],"label":[0]}'
    error = error_of(JsonCodec(), f'{{"batches":[{good},{bad}]}}'.encode())
    assert error.detail == "batch 1: both 'y' and 'label' are names of the targets: give one of them"
    assert error.errors[0]["loc"] == ["batches", 1, "targets"]
    assert error_of(JsonCodec(), bad.encode()).errors[0]["loc"] == ["targets"]
