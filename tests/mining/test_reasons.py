"""Reasons: the sentence of each strategy, with ordinary and extreme numbers."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from service.mining.reasons import reason
from service.mining.requests import Strategy

ROW: dict[str, Any] = {
    "target": 1,
    "suggested": 0,
    "suggested_p": 0.9,
    "p_t": 0.08765,
    "loss": 2.34567,
    "share": 0.0123,
    "logit_margin": -2.5,
    "normalized_margin": 0.125,
    "entropy": 0.6931,
    "score": -1.25,
}
MODEL = "the model gives dog 8.8 % and cat 90.0 %."
SENTENCES = {
    "top_loss": "Loss 2.346, 1.2 % of the epoch's whole loss",
    "top_share": "Loss 2.346, 1.2 % of the epoch's whole loss",
    "logit_margin": "The label's logit lies 2.5 behind the best other one",
    "semi_hard": "Right, by a margin of only -2.5",
    "area_under_margin": "Over the epochs the label's logit margin was -1.25 on average",
    "self_confidence": "The label has a probability of only 8.8 %",
    "normalized_margin": "Normalised margin 0.125 (0 worst, 1 best)",
    "adjusted_margin": (
        "Adjusted for the frequency of the classes, the label's logit lies 1.25 behind the best other one"
    ),
    "adjusted_self_confidence": (
        "Adjusted for the frequency of the classes, the label has a probability of only -125.00 %"
    ),
    "ambiguous": "The model is undecided, entropy 0.6931 nats",
    "suspected_errors": "Confident learning counts the label as an error",
    "random": "Drawn at random, as a control",
}
# Annotators and model suggest a class together.
BY_CONSENSUS = {
    "consensus_quality": "The consensus of the annotators has a probability of only 51.2 %",
    "active_lab": "One more label tells much here, ActiveLab score 0.5123",
    "active_lab_calibrated": "One more label tells much here, calibrated ActiveLab score 0.5123",
}


def test_each_strategy_of_examples_with_one_class_has_a_sentence() -> None:
    assert {*SENTENCES, *BY_CONSENSUS} == set(get_args(Strategy)) - {"label_quality"}


@pytest.mark.parametrize("strategy", SENTENCES)
def test_the_reason_of_each_strategy(strategy: str) -> None:
    text = reason(ROW | {"strategy": strategy}, ["cat", "dog"])
    assert text == f"{SENTENCES[strategy]}: {MODEL}"
    assert "\n" not in text
    assert text.count(". ") == 0


@pytest.mark.parametrize("strategy", BY_CONSENSUS)
def test_the_reason_of_a_consensus(strategy: str) -> None:
    row = ROW | {"strategy": strategy, "score": 0.5123}
    likely = "cat is likelier than dog, to which the model gives 8.8 %."
    assert reason(row, ["cat", "dog"]) == f"{BY_CONSENSUS[strategy]}: {likely}"
    assert reason(row | {"suggested": None}, None).endswith(": class 1 is likeliest, to which the model gives 8.8 %.")


def test_reasons_without_class_names_and_with_an_agreeing_model() -> None:
    row = ROW | {"strategy": "random"}
    assert reason(row, None).endswith("the model gives class 1 8.8 % and class 0 90.0 %.")
    agrees = row | {"suggested": None, "suggested_p": None}
    assert reason(agrees, None).endswith(": the model agrees with class 1 (8.8 %).")
    assert reason(agrees, ["a", "b"]).endswith(": the model agrees with b (8.8 %).")


def test_the_reason_counts_epochs_with_the_suggested_class() -> None:
    row = ROW | {"strategy": "area_under_margin", "suggested_p": None, "suggested_epochs": 3, "num_epochs": 10}
    text = reason(row, ["cat", "dog"]).partition(": ")[2]
    assert text == "the model called it cat in 3 of 10 epochs, and gives dog 8.8 % now."
    assert reason(row | {"suggested": None}, None).endswith(": the model agrees with class 1 (8.8 %).")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.00 %"),
        (1e-300, "under 0.01 %"),
        (0.0000999, "under 0.01 %"),
        (0.0001, "0.01 %"),
        (0.005, "0.50 %"),
        (0.01, "1.0 %"),
        (0.5, "50.0 %"),
        (0.99, "99.0 %"),
        (0.9912, "99.12 %"),
        (0.99995, "over 99.99 %"),
        (1.0, "100.00 %"),
    ],
)
def test_a_share_is_never_rounded_to_0_or_100_percent(share: float, text: str) -> None:
    row = ROW | {"strategy": "self_confidence", "p_t": share}
    assert reason(row, None).startswith(f"The label has a probability of only {text}: ")


def test_margins_on_both_sides_of_zero_and_infinite_ones() -> None:
    def text(margin: float) -> str:
        return reason(ROW | {"strategy": "logit_margin", "logit_margin": margin}, None).partition(":")[0]

    assert text(0.0) == text(-0.0) == "The label's logit lies 0 behind the best other one"
    assert text(3.14159) == "The label's logit lies 3.142 before the best other one"
    assert text(-1e-9) == "The label's logit lies 1e-09 behind the best other one"
    assert text(math.inf) == "The label's logit lies inf before the best other one"
