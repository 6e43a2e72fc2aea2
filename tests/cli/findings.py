"""Handwritten findings about a run."""

from __future__ import annotations

from typing import Any

from service.cli.runs.diagnose import Findings


def diagnostics(text: str, classes: int) -> dict[str, Any]:
    """Diagnostics of a run with two examples of each class; every text is `text`."""
    concentration = {
        "gini": 0.5,
        "lorenz": [[0.0, 0.0], [1.0, 1.0]],
        "top_1_percent": 0.2,
        "top_5_percent": 0.3,
        "top_10_percent": 0.4,
    }
    return {
        "run": text,
        "epoch": 1,
        "epochs": [0, 1],
        "num_examples": 2 * classes,
        "num_ignored": 0,
        "num_excluded": 0,
        "num_classes": classes,
        "alpha": [1.0] * classes,
        "gamma": 2.0,
        "num_duplicates": 0,
        "loss": {
            "value": 0.1,
            "reduction": "mean",
            "sum": 0.2,
            "alpha_sum": 2.0,
            "mean": 0.1,
            "median": 0.1,
            "max": 0.2,
            "accuracy": 0.5,
        },
        "classes": [
            {
                "class": label,
                "name": text,
                "count": 2,
                "loss_sum": 0.1,
                "loss_share": 1 / classes,
                "mean_loss": 0.05,
                "recall": 0.5,
                "predicted": 2,
                "most_confused": {"class": 0, "count": 1},
                "label_noise": 0.5,
                "often_truly": 0,
            }
            for label in range(classes)
        ],
        "confusion": {
            "matrix": [[1] * classes] * classes,
            "largest": [{"target": 0, "prediction": 1, "count": 1}],
        },
        "class_pairs": [{"first": 0, "second": 1, "count": 1, "probability": 0.25}],
        "histogram": {"edges": [0.01, 0.1, 1.0], "counts": [1, 1]},
        "concentration": concentration,
        "concentration_at_gamma_0": concentration,
        "calibration": {
            "num_examples": 2,
            "bins": [
                {"lower": 0.0, "upper": 0.5, "count": 0, "accuracy": None, "confidence": None},
                {"lower": 0.5, "upper": 1.0, "count": 2, "accuracy": 0.5, "confidence": 0.75},
            ],
            "ece": 0.25,
            "accuracy": 0.5,
            "confidence": 0.75,
            "temperature": 1.5,
        },
        "label_errors": {"estimated": 1, "off_diagonal": 1, "share": 0.25},
        "warnings": [{"code": "in_sample", "message": text}],
    }


def remaining(text: str = "text") -> dict[str, Any]:
    """The wrong labels that are left, and the prediction for a queue called `text`."""
    return {
        "status": "estimated",
        "message": "At most 7 of the 90 labels without a verdict are wrong.",
        "num_judged": 10,
        "next": {
            "queue": text,
            "status": "estimated",
            "num_open": 40,
            "num_judged": 10,
            "num_wrong": 3,
            "predictions": [{"rows": 10, "expected": 2.75, "low": 1, "high": 6}],
        },
    }


def findings(text: str = "text", classes: int = 2) -> Findings:
    """Findings in which every text of a user is `text`."""
    example = {
        "id": text,
        "target": 0,
        "prediction": 1,
        "p_t": 0.1,
        "logit_margin": -2.0,
        "loss": 1.8,
        "verdict": text,
        "attributes": {text: text},
    }
    run = {
        "class_names": [text] * classes,
        "task": "classification",
        "config": {"gamma": 1.0},
        "reviews": {"num_reviewed": 2, "num_wrong": 1},
    }
    return Findings(run, diagnostics(text, classes), None, [example], remaining(text), None)


def structured_findings(text: str = "text", task: str = "tokens") -> Findings:
    """Findings about the elements of a structured run in which every text of a user is `text`."""
    run = findings(text).run | {"task": task}
    members = diagnostics(text, 2)
    for name in ("classes", "confusion", "class_pairs", "calibration", "label_errors"):
        del members[name]
    label: dict[str, int] = {"label": 1} if task == "multi_label" else {}
    element_class = {
        "name": text,
        "count": 8,
        "num_positive": 3,
        "num_wrong": 2,
        "error_rate": 0.25,
        "num_units": 1,
        "loss_sum": 0.5,
        "loss_share": 0.5,
        "mean_loss": 0.0625,
        "label_issues": 2,
        "inverse_label_issues": 1,
        "label_noise": 0.25,
    }
    members["elements"] = {
        "num_valid": 16,
        "num_ignored": 3,
        "num_wrong": 4,
        "error_rate": 0.25,
        "num_units": 2,
        "num_examples_wrong": 2,
        "classes": [{"class": number, **element_class} for number in range(2)],
        "confusions": [{**label, "target": 0, "prediction": 1, "count": 3, "num_units": 2, "loss_sum": 0.7}],
        "label_issues": {
            "estimated": 5,
            "share": 0.3125,
            "num_issues": 4,
            "num_examples": 2,
            "common": [{**label, "target": 0, "suggested": 1, "count": 3}],
            "words": [{"word": text, "target": 0, "suggested": 1, "count": 2}] if task == "tokens" else [],
        },
    }
    if task == "tokens":
        issues = members["elements"]["label_issues"]
        members["elements"]["entities"] = issues | {"names": [text, f"{text} as an entity"]}
    example = {
        "id": text,
        "num_wrong": 2,
        "num_valid": 8,
        "label_quality": 0.125,
        "loss": 0.5,
        "verdict": text,
        "attributes": {text: text},
    }
    return Findings(run, members, None, [example], remaining(text), None)
