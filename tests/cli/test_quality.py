"""`focal-loss agreement`, and what `diagnose` and `compare` tell about reviews, in the process of the test."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from service.cli.report.html import render_report
from service.cli.runs.agreement import show_agreement
from service.cli.runs.diagnose import show_findings
from service.cli.runs.quality_lines import change_lines, gain_lines, remaining_lines
from tests.cli.findings import findings, remaining

TEXT = "[b]owl[/b]"


def shown(show: Any, *arguments: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(*arguments, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def uptake(taken: int, rows: int) -> dict[str, Any]:
    return {"rows": rows, "taken": taken, "share": None, "low": None, "high": None}


def agreement(rows: int = 8) -> Any:
    counts = {"num_reviewed": 9, "num_ok": 4, "num_wrong": 3, "num_unsure": 2, "num_exclude": 0}
    one = {
        "reviewer": TEXT,
        **counts,
        "gold": {"rows": rows, "hits": 3, "share": None},
        "suggestion_shown": uptake(6, rows),
        "suggestion_hidden": uptake(1, rows),
    }
    review = {"reviewer": None, "verdict": "wrong", "label": 1, "comment": None}
    return {
        "num_items": 9,
        "num_compared": 7,
        "num_reviewers": 2,
        "fleiss_kappa": 0.512345,
        "krippendorff_alpha": {"value": 0.5, "low": 0.25, "high": 0.75},
        "pairs": [{"first": TEXT, "second": None, "num_common": 7, "agreement": 0.75, "cohen_kappa": 0.4}],
        "reviewers": [one],
        "suggestion_shown": uptake(6, rows),
        "suggestion_hidden": uptake(1, rows),
        "num_conflicts": 1,
        "conflicts": [{"id": TEXT, "unit": [3, 5], "reviews": [review, {**review, "reviewer": TEXT, "verdict": "ok"}]}],
    }


def estimate(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": value and value - 0.25, "high": value and value + 0.25}


def metrics(value: float, loss: float | None = 0.5) -> dict[str, Any]:
    return {"accuracy": estimate(value), "loss": estimate(loss), "ece": estimate(value / 2)}


def gain(num_corrected: int = 4) -> Any:
    labels = {
        "before": metrics(0.5),
        "after": metrics(0.75, None),
        "difference": metrics(0.25, None),
        "mcnemar": {"only_before": 3, "only_after": 9, "p": 0.146},
    }
    return {
        "num_compared": 90,
        "num_corrected": num_corrected,
        "given": labels,
        "corrected": labels,
        "change_after": metrics(0.25, None),
        "notes": ["no logits"],
    }


def test_agreement_fits_80_columns() -> None:
    text = shown(show_agreement, agreement(), ["cat", "dog"])
    assert "Krippendorff 0.5 [0.25, 0.75]; Fleiss kappa 0.512" in text
    assert text.count(TEXT) >= 4
    for part in ("3/8", "6/8", "6 of 8 (75.0%)", "(no name): wrong (dog)", "[3, 5]"):
        assert part in text, part


def test_agreement_without_gold_rows_and_suggestions() -> None:
    text = shown(show_agreement, agreement(rows=0), None)
    assert "gold" not in text
    assert "taken" not in text


def test_agreement_without_reviews() -> None:
    nothing = {
        "reviewers": [],
        "pairs": [],
        "conflicts": [],
        "krippendorff_alpha": estimate(None),
        "fleiss_kappa": None,
    }
    text = shown(show_agreement, {**agreement(rows=0), **nothing}, None)
    assert "Krippendorff -; Fleiss kappa -" in text
    assert "Reviewers" not in text


def test_remaining_is_in_the_findings_and_the_report() -> None:
    expected = "the next 10 will find about 3 [1, 6] wrong labels"
    text = shown(show_findings, findings(TEXT), width=200)
    assert "labels left      At most 7 of the 90 labels without a verdict are wrong\n" in text
    assert f"queue {TEXT}: {expected}" in text
    assert f"{expected}." in " ".join(render_report(findings()).split())


@pytest.mark.parametrize(
    ("status", "text"),
    [("no_open_rows", "has a verdict on every row"), ("too_few_verdicts", "10 verdicts of ok or wrong, too few")],
)
def test_a_queue_without_a_prediction(status: str, text: str) -> None:
    reply: Any = remaining()
    reply["next"]["status"] = status
    assert text in remaining_lines(reply)[1][1]


def test_a_run_that_nobody_reviews_has_no_lines() -> None:
    assert remaining_lines({**remaining(), "next": None, "num_judged": 0}) == []  # type: ignore[typeddict-item]


def test_gain_lines() -> None:
    given, corrected, note = gain_lines(gain())
    assert given[1] == (
        "accuracy 50.0% -> 75.0% (+25.0% [+0.0%, +50.0%]), calibration error 25.0% -> 37.5% "
        "(+12.5% [-12.5%, +37.5%]); McNemar 3 against 9, p 0.146"
    )
    assert corrected == ("corrected", f"4 labels: {given[1]}")
    assert note == ("note", "no logits")
    assert change_lines(gain())[0][1].startswith("4 of 90: accuracy 75.0% -> 75.0% (+25.0% [+0.0%, +50.0%])")


def test_without_corrected_labels_there_is_no_change() -> None:
    assert change_lines(gain(0)) == []
    assert [name for name, _ in gain_lines(gain(0))] == ["given", "note"]
    assert gain_lines({**gain(0), "num_compared": 0}) == []
