"""Output of the commands about runs, without a service."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from service.cli.runs.diagnose import show_findings
from service.cli.runs.manage import describe_config
from service.schema.config import LossConfig
from tests.cli.findings import findings


@pytest.mark.parametrize(
    ("alpha", "text"),
    [
        (None, "softmax, gamma 1.5"),
        ([1.0, 0.25], "softmax, gamma 1.5, alpha 1, 0.25"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "softmax, gamma 1.5, alpha 1, 2, 3, 4, ..."),
        ({"class_counts": [90, 10], "scheme": "inverse"}, "softmax, gamma 1.5, alpha by class counts (inverse)"),
    ],
)
def test_a_configuration_in_a_few_words(alpha: Any, text: str) -> None:
    config: Any = LossConfig.parse({"gamma": 1.5, "alpha": alpha}).model_dump(mode="json")
    assert describe_config(config) == text


def test_diagnose_prints_texts_of_the_data_without_interpreting_them() -> None:
    text = "[bold]owl[/bold] [/]"
    console = Console(file=io.StringIO(), width=200)
    show_findings(findings(text), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Warning: {text}" in shown
    assert f"{text} / {text}" in shown
    assert f"Run {text}, epoch 1 of 0, 1" in shown
