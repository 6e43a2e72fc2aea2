"""Configurations: their ids, weights and errors; options of requests."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import InvalidConfigError, InvalidRequestError, UnknownOutputError
from service.schema.config import ClassCounts, LossConfig
from service.schema.request import DEFAULT_OUTPUTS, OUTPUTS, Batch, RequestOptions

NAN, INF = math.nan, math.inf


def id_of(value: dict[str, Any]) -> str:
    return LossConfig.parse(value).config_id


class TestConfigId:
    @pytest.mark.parametrize(
        ("value", "config_id"),
        [
            ({}, "fl_9906542f74351adf"),
            ({"gamma": 0}, "fl_eb2eaa431a94a744"),
            ({"gamma": 0.1}, "fl_ac0ca4932978d96b"),
            ({"alpha": 0.25}, "fl_8deb4f635ee8b00a"),
            ({"alpha": 0.9, "positive_class": 0}, "fl_78a1c728b1df168c"),
            ({"alpha": [1.0, 2.0, 4.0], "gamma": 2.0}, "fl_52fe374997618029"),
            ({"alpha": {"class_counts": [60, 30, 10]}}, "fl_7507cb2618e8ed25"),
            ({"alpha": {"class_counts": [1000, 100, 10], "scheme": "effective"}}, "fl_fb4c7e20167ff80a"),
            (
                {"alpha": {"class_counts": [1000, 100, 10], "scheme": "effective", "beta": 0.9999}},
                "fl_e3e02b21a897015a",
            ),
            ({"reduction": "weighted_mean", "ignore_index": None}, "fl_2fd6e8357148b946"),
            ({"label_smoothing": 0.1, "reduction": "sum"}, "fl_4927dfe104da2cc4"),
            ({"mode": "sigmoid"}, "fl_b08f04b47d9eaec2"),
            ({"mode": "sigmoid", "alpha": 0.25, "ignore_index": -1}, "fl_8805757bd4d3c704"),
            ({"mode": "sigmoid", "alpha": [0.25]}, "fl_6ce284c447fd25b0"),
        ],
        ids=str,
    )
    def test_is_the_same_as_in_version_1_0(self, value: dict[str, Any], config_id: str) -> None:
        """Clients store ids, so a change here breaks the wire contract."""
        assert id_of(value) == config_id

    def test_of_many_weights_is_the_hash_of_their_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        alpha = [number / 7 for number in range(50)]
        expected = id_of({"alpha": alpha})
        for size in (1, 7, 49, 50):
            monkeypatch.setattr("service.schema.config.WEIGHTS_AT_ONCE", size)
            assert id_of({"alpha": alpha}) == expected

    @pytest.mark.parametrize(
        "spellings",
        [
            [{"gamma": 2}, {"gamma": 2.0}, {}],
            [{"gamma": 0}, {"gamma": 0.0}, {"gamma": -0.0}],
            [
                {},
                {
                    "mode": "softmax",
                    "alpha": None,
                    "gamma": 2.0,
                    "reduction": "mean",
                    "ignore_index": -100,
                    "positive_class": 1,
                    "label_smoothing": 0,
                },
            ],
            [{"gamma": 1, "reduction": "sum"}, {"reduction": "sum", "gamma": 1}],
            [{"alpha": [1, 2]}, {"alpha": [1.0, 2.0]}, {"alpha": (1, 2)}],
            [{"alpha": [0, 2]}, {"alpha": [-0.0, 2]}],
            [{"alpha": [1, 2]}, {"alpha": [1, 2], "positive_class": 0}],
            [{}, {"positive_class": 0}],
            [{"alpha": {"class_counts": [8, 2]}}, {"alpha": [1.25, 5]}],
            [{"alpha": {"class_counts": [60, 30, 10]}}, {"alpha": [100 / 60, 100 / 30, 10]}],
            [
                {"alpha": {"class_counts": [8, 2]}},
                {"alpha": {"class_counts": [8, 2], "scheme": "inverse"}},
                {"alpha": {"class_counts": [8, 2], "scheme": "inverse", "beta": 0.5}},
                {"alpha": {"class_counts": [80, 20]}},
            ],
            [
                {"alpha": {"class_counts": [8, 2], "scheme": "effective"}},
                {"alpha": {"class_counts": [8, 2], "scheme": "effective", "beta": 0.999}},
            ],
            [{"alpha": {"class_counts": [5, 9], "scheme": "effective", "beta": 0}}, {"alpha": [1, 1]}],
            [
                {"alpha": 0.9},
                {"alpha": [0.1, 0.9]},
                {"alpha": 0.1, "positive_class": 0},
                {"alpha": 0.9, "positive_class": 1},
            ],
            [{"alpha": 0.9, "positive_class": 0}, {"alpha": [0.9, 0.1]}, {"alpha": 0.1}],
            [{"alpha": 1}, {"alpha": 1.0}, {"alpha": [0, 1]}],
            [
                {"mode": "sigmoid", "alpha": 0.9, "positive_class": 0},
                {"mode": "sigmoid", "alpha": 0.1},
            ],
        ],
        ids=lambda spellings: str(spellings[0]),
    )
    def test_is_equal_for_equal_configurations(self, spellings: list[dict[str, Any]]) -> None:
        assert len({id_of(value) for value in spellings}) == 1

    def test_is_equal_for_class_counts_and_their_weights(self) -> None:
        for scheme in ("inverse", "effective"):
            counts = LossConfig.parse({"alpha": {"class_counts": [977, 31, 7], "scheme": scheme}})
            assert counts.weights is not None
            assert id_of({"alpha": list(counts.weights)}) == counts.config_id

    def test_differs_for_different_configurations(self) -> None:
        different: list[dict[str, Any]] = [
            {},
            {"gamma": 2.0000000000000004},
            {"gamma": 0},
            {"gamma": 1e-300},
            {"mode": "sigmoid"},
            {"reduction": "sum"},
            {"reduction": "weighted_mean"},
            {"reduction": "none"},
            {"ignore_index": None},
            {"ignore_index": 100},
            {"ignore_index": 0},
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.2},
            {"alpha": [1, 1]},
            {"alpha": [1, 1, 1]},
            {"alpha": [1, 2]},
            {"alpha": [2, 1]},
            {"alpha": [2, 4]},
            {"alpha": 0.25},
            {"alpha": 0.25, "positive_class": 0},
            {"alpha": 0.5},
            {"alpha": {"class_counts": [8, 2]}},
            {"alpha": {"class_counts": [8, 2], "scheme": "effective"}},
            {"alpha": {"class_counts": [8, 2], "scheme": "effective", "beta": 0.99}},
            # A number fits any number of labels, a list fixes it.
            {"mode": "sigmoid", "alpha": 0.25},
            {"mode": "sigmoid", "alpha": [0.25]},
            {"mode": "sigmoid", "alpha": [0.25, 0.25]},
            {"mode": "sigmoid", "alpha": [0.25, 0.75]},
        ]
        assert len({id_of(value) for value in different}) == len(different)

    @settings(deadline=None)
    @given(alpha=st.floats(0, 1), positive_class=st.sampled_from([0, 1]), mode=st.sampled_from(["softmax", "sigmoid"]))
    def test_is_unchanged_after_a_round_trip(self, alpha: float, positive_class: int, mode: str) -> None:
        config = LossConfig.parse({"mode": mode, "alpha": alpha, "positive_class": positive_class})
        assert re.fullmatch(r"fl_[0-9a-f]{16}", config.config_id)
        assert LossConfig.parse(config.model_dump()).config_id == config.config_id
        assert LossConfig.model_validate_json(config.model_dump_json()).config_id == config.config_id

    @settings(deadline=None)
    @given(thousandths=st.integers(0, 1000))
    def test_is_equal_for_alpha_and_its_decimal_complement(self, thousandths: int) -> None:
        alpha, complement = thousandths / 1000, (1000 - thousandths) / 1000
        assert id_of({"alpha": alpha}) == id_of({"alpha": [complement, alpha]})
        assert id_of({"alpha": alpha}) == id_of({"alpha": complement, "positive_class": 0})


class TestWeights:
    @pytest.mark.parametrize(
        ("value", "weights"),
        [
            ({}, None),
            ({"alpha": [1, 2, 4]}, (1.0, 2.0, 4.0)),
            ({"alpha": 0.9}, (0.1, 0.9)),
            ({"alpha": 0.9, "positive_class": 0}, (0.9, 0.1)),
            ({"alpha": 0}, (1.0, 0.0)),
            ({"alpha": {"class_counts": [8, 2]}}, (1.25, 5.0)),
            ({"mode": "sigmoid", "alpha": 0.9}, (0.9,)),
            ({"mode": "sigmoid", "alpha": 0.9, "positive_class": 0}, (0.1,)),
            ({"mode": "sigmoid", "alpha": [0.9, 0.2]}, (0.9, 0.2)),
        ],
        ids=str,
    )
    def test_alpha_resolves_to(self, value: dict[str, Any], weights: tuple[float, ...] | None) -> None:
        assert LossConfig.parse(value).weights == weights

    @pytest.mark.parametrize("counts", [(60, 30, 10), (1, 1), (1000, 1, 333, 7)])
    def test_inverse_is_total_over_count(self, counts: tuple[int, ...]) -> None:
        weights = ClassCounts(class_counts=counts).weights()
        assert weights == tuple(float(Fraction(sum(counts), n)) for n in counts)
        assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(len(counts) * sum(counts))

    @pytest.mark.parametrize("counts", [(500, 50, 5), (1, 1), (3, 3, 3), (1000, 1)])
    @pytest.mark.parametrize("beta", ["0", "0.5", "0.9", "0.999", "0.9999"])
    def test_effective_is_equation_2_of_cui_et_al_in_exact_fractions(self, counts: tuple[int, ...], beta: str) -> None:
        exact_beta = Fraction(beta)
        effective_numbers = [(1 - exact_beta**n) / (1 - exact_beta) for n in counts]
        raw = [1 / number for number in effective_numbers]
        expected = tuple(float(w * len(counts) / sum(raw)) for w in raw)
        weights = ClassCounts(class_counts=counts, scheme="effective", beta=float(beta)).weights()
        assert weights == expected
        assert sum(weights) == pytest.approx(len(counts), rel=1e-14)

    def test_effective_approaches_inverse_as_beta_approaches_one(self) -> None:
        none, much = (ClassCounts(class_counts=(8, 2), scheme="effective", beta=b).weights() for b in (0.0, 1 - 1e-12))
        assert none == (1.0, 1.0)
        assert much == pytest.approx((0.4, 1.6), rel=1e-9)

    def test_effective_weights_of_very_many_examples_are_finite(self) -> None:
        weights = ClassCounts(class_counts=(2**63 - 1, 1), scheme="effective").weights()
        assert weights == pytest.approx((2 * 0.001 / 1.001, 2 / 1.001))

    def test_configuration_is_frozen_and_hashable(self) -> None:
        config = LossConfig.parse({"alpha": {"class_counts": [8, 2]}})
        assert {config: 1}[LossConfig.parse({"alpha": {"class_counts": [8, 2]}})] == 1
        with pytest.raises(ValidationError, match="frozen"):
            config.gamma = 3.0


INVALID = [
    ({"gamma": -1}, ["gamma"], "-1"),
    ({"gamma": -1e-300}, ["gamma"], "-1e-300"),
    ({"gamma": NAN}, ["gamma"], "nan"),
    ({"gamma": INF}, ["gamma"], "inf"),
    ({"gamma": "2"}, ["gamma"], "'2'"),
    ({"gamma": True}, ["gamma"], "True"),
    ({"gamma": None}, ["gamma"], "None"),
    ({"mode": "binary"}, ["mode"], "'binary'"),
    ({"mode": None}, ["mode"], "None"),
    ({"reduction": "average"}, ["reduction"], "'average'"),
    ({"ignore_index": 1.5}, ["ignore_index"], "1.5"),
    ({"ignore_index": "pad"}, ["ignore_index"], "'pad'"),
    ({"ignore_index": True}, ["ignore_index"], "True"),
    ({"ignore_index": 2**63}, ["ignore_index"], "9223372036854775808"),
    ({"positive_class": 2}, ["positive_class"], "2"),
    ({"positive_class": "1"}, ["positive_class"], "'1'"),
    ({"positive_class": True}, ["positive_class"], "True"),
    ({"positive_class": 1.0}, ["positive_class"], "1.0"),
    ({"label_smoothing": 1}, ["label_smoothing"], "1"),
    ({"label_smoothing": -0.1}, ["label_smoothing"], "-0.1"),
    ({"label_smoothing": NAN}, ["label_smoothing"], "nan"),
    ({"alpha": 1.5}, ["alpha"], "1.5"),
    ({"alpha": -0.5}, ["alpha"], "-0.5"),
    ({"alpha": NAN}, ["alpha"], "nan"),
    ({"alpha": True}, ["alpha"], "True"),
    ({"alpha": "balanced"}, ["alpha"], "'balanced'"),
    ({"alpha": []}, ["alpha"], "at least 1"),
    ({"alpha": [1, -2, 3]}, ["alpha", 1], "-2"),
    ({"alpha": [1, 2, INF]}, ["alpha", 2], "inf"),
    ({"alpha": [1, "2"]}, ["alpha", 1], "'2'"),
    ({"alpha": [1, None]}, ["alpha", 1], "None"),
    ({"alpha": [1, [2]]}, ["alpha", 1], "valid number"),
    ({"alpha": [1]}, [], "at least two"),
    ({"alpha": {}}, ["alpha", "class_counts"], "required"),
    ({"alpha": {"class_counts": 5}}, ["alpha", "class_counts"], "5"),
    ({"alpha": {"class_counts": [5]}}, ["alpha", "class_counts"], "at least 2"),
    ({"alpha": {"class_counts": [5, 0, 3]}}, ["alpha", "class_counts"], "class 1 has count 0"),
    ({"alpha": {"class_counts": [5, 3, -1]}}, ["alpha", "class_counts"], "class 2 has count -1"),
    ({"alpha": {"class_counts": [5, 2.5]}}, ["alpha", "class_counts", 1], "2.5"),
    ({"alpha": {"class_counts": [5, 2**63]}}, ["alpha", "class_counts", 1], "9223372036854775808"),
    ({"alpha": {"class_counts": [5, 3], "scheme": "square"}}, ["alpha", "scheme"], "'square'"),
    ({"alpha": {"class_counts": [5, 3], "beta": 1}}, ["alpha", "beta"], "1"),
    ({"alpha": {"class_counts": [5, 3], "beta": -0.5}}, ["alpha", "beta"], "-0.5"),
    ({"alpha": {"class_counts": [5, 3], "beta": NAN}}, ["alpha", "beta"], "nan"),
    ({"alpha": {"class_counts": [5, 3], "power": 7}}, ["alpha", "power"], "unknown field 'power'"),
    ({"mode": "sigmoid", "label_smoothing": 0.1}, [], "label_smoothing is for softmax"),
    ({"mode": "sigmoid", "alpha": {"class_counts": [5, 3]}}, [], "class_counts are for softmax"),
    ({"mode": "sigmoid", "alpha": [0.5, 1.25]}, [], "1.25"),
    ({"gama": 3}, ["gama"], "unknown field 'gama'"),
]


class TestInvalidConfig:
    @pytest.mark.parametrize(("value", "loc", "named"), INVALID, ids=[str(value) for value, _, _ in INVALID])
    def test_error_names_place_and_value(self, value: dict[str, Any], loc: list[str | int], named: str) -> None:
        for parse in (LossConfig.parse, lambda config: RequestOptions.parse({"config": config})):
            with pytest.raises(InvalidConfigError) as err:
                parse(value)
            (item,) = err.value.errors
            assert item["loc"] == ["config", *loc]
            assert named in item["msg"]
            assert err.value.detail == f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            assert err.value.problem()["code"] == "invalid_config"

    def test_each_fault_is_an_item_and_the_detail_counts_them(self) -> None:
        with pytest.raises(InvalidConfigError) as err:
            LossConfig.parse({"gamma": -1, "alpha": [-1, 2, -3], "x": 0})
        # The error names the first fault of a list, so that it is not larger than the request.
        assert [item["loc"] for item in err.value.errors] == [
            ["config", "alpha", 0],
            ["config", "gamma"],
            ["config", "x"],
        ]
        assert err.value.detail.endswith("(and 2 more)")

    @pytest.mark.parametrize("value", [None, 5, "softmax", [], [["gamma", 2]]])
    def test_configuration_must_be_an_object(self, value: Any) -> None:
        with pytest.raises(InvalidConfigError) as err:
            LossConfig.parse(value)
        assert [item["loc"] for item in err.value.errors] == [["config"]]

    def test_error_truncates_a_large_value(self) -> None:
        for value in ({"mode": "x" * 10_000}, {"gamma": list(range(10_000))}):
            with pytest.raises(InvalidConfigError) as err:
                LossConfig.parse(value)
            assert len(err.value.detail) < 300

    def test_error_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="gamma"):
            LossConfig.parse({"gamma": -1})


class TestRequestOptions:
    def test_defaults(self) -> None:
        options = RequestOptions.parse({})
        assert options.config is None
        assert options.config_id is None
        assert options.outputs == DEFAULT_OUTPUTS == ("loss", "contribution")
        assert options.top_k == 0
        assert options.on_invalid == "error"

    def test_all_fields(self) -> None:
        options = RequestOptions.parse(
            {"config": {"gamma": 3}, "outputs": list(OUTPUTS), "top_k": 7, "on_invalid": "exclude"}
        )
        assert options.config == LossConfig(gamma=3.0)
        assert options.outputs == OUTPUTS
        assert options.top_k == 7
        assert options.on_invalid == "exclude"
        assert RequestOptions.parse({"config_id": "fl_9906542f74351adf"}).config_id == "fl_9906542f74351adf"

    def test_error_names_an_unknown_output_and_lists_the_known_ones(self) -> None:
        with pytest.raises(UnknownOutputError) as err:
            RequestOptions.parse({"outputs": ["loss", "accuracy", "p_t"]})
        assert "'accuracy'" in err.value.detail
        assert [item["loc"] for item in err.value.errors] == [["outputs", 1]]
        for name in OUTPUTS:
            assert name in err.value.errors[0]["msg"]
        assert err.value.problem()["code"] == "unknown_output"

    def test_outputs_of_the_contract(self) -> None:
        assert OUTPUTS == (
            "loss",
            "contribution",
            "cross_entropy",
            "p_t",
            "log_odds",
            "prediction",
            "logit_margin",
            "normalized_margin",
            "entropy",
            "confidence_weighted_entropy",
            "el2n",
            "grad_norm",
            "num_valid",
            "label_quality",
            "max_loss",
        )

    @pytest.mark.parametrize(
        ("options", "loc"),
        [
            ({"divisor": 0}, ["divisor"]),
            ({"divisor": "rows"}, ["divisor"]),
            ({"divisor": True}, ["divisor"]),
            ({"within": "min"}, ["within"]),
            ({"within": {"top_share": 0}}, ["within", "top_share"]),
            ({"layout": "columns"}, ["layout"]),
            ({"elements": ["loss", "label_quality"]}, ["elements", 1]),
            ({"top_regions": 1001}, ["top_regions"]),
        ],
    )
    def test_bad_options_of_structured_examples(self, options: dict[str, Any], loc: list[str | int]) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            RequestOptions.parse(options)
        assert [item["loc"] for item in caught.value.errors] == [loc]

    @pytest.mark.parametrize(
        ("value", "loc", "named"),
        [
            ({"top_k": -1}, ["top_k"], "-1"),
            ({"top_k": 1.5}, ["top_k"], "1.5"),
            ({"top_k": True}, ["top_k"], "True"),
            ({"top_k": 1_000_001}, ["top_k"], "1000001"),
            ({"on_invalid": "skip"}, ["on_invalid"], "'skip'"),
            ({"outputs": "loss"}, ["outputs"], "'loss'"),
            ({"outputs": ["loss", 3]}, ["outputs", 1], "3"),
            ({"config_id": 7}, ["config_id"], "7"),
            ({"gamma": 2}, ["gamma"], "unknown field 'gamma'"),
            ({"config": {}, "config_id": "fl_9906542f74351adf"}, ["config_id"], "config is given as well"),
        ],
        ids=str,
    )
    def test_error_names_the_option(self, value: dict[str, Any], loc: list[str | int], named: str) -> None:
        with pytest.raises(InvalidRequestError) as err:
            RequestOptions.parse(value)
        assert not isinstance(err.value, InvalidConfigError)
        (item,) = err.value.errors
        assert item["loc"] == loc
        assert named in item["msg"]

    def test_faults_in_the_configuration_and_in_other_options(self) -> None:
        with pytest.raises(InvalidRequestError) as err:
            RequestOptions.parse({"config": {"alpha": {"class_counts": [1, 0]}}, "top_k": -1})
        assert not isinstance(err.value, InvalidConfigError)
        assert [item["loc"] for item in err.value.errors] == [["config", "alpha", "class_counts"], ["top_k"]]


@pytest.mark.parametrize(("shape", "expected"), [((4, 3), 4), ((0, 3), 0), ((), 0)])
def test_number_of_examples_of_a_batch(shape: tuple[int, ...], expected: int) -> None:
    assert Batch(np.zeros(shape), np.zeros(shape[:1])).num_examples == expected


@pytest.mark.parametrize("field", ["gamma", "alpha", "label_smoothing"])
def test_minus_zero_is_zero(field: str) -> None:
    config, plus = LossConfig.parse({field: -0.0}), LossConfig.parse({field: 0.0})
    assert math.copysign(1, getattr(config, field)) == 1
    assert (config, config.config_id) == (plus, plus.config_id)
    assert LossConfig.parse({"alpha": [-0.0, 1.0]}).model_dump_json().count("-0.0") == 0
