"""The Argilla SDK reads the export as the documentation says. It validates records without a server."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import pytest

from service.client import LossClient, RunClient
from tests.live.server_process import ServerProcess
from tests.tools.conftest import CLASS_NAMES, IDS, LABELS, PREDICTED, ROWS, TEXTS

rg = pytest.importorskip("argilla", reason="argilla is not installed")
SUGGESTION = ("label.suggestion", "label.suggestion.score", "label.suggestion.agent")


def dataset_with(question: Any) -> Any:
    settings = rg.Settings(
        fields=[rg.TextField("text")],
        questions=[question],
        metadata=[
            rg.FloatMetadataProperty("focal_loss"),
            rg.IntegerMetadataProperty("rank"),
            rg.TermsMetadataProperty("given_label", options=CLASS_NAMES),
        ],
    )
    return rg.Dataset("tools", settings=settings)


@pytest.fixture(autouse=True)
def without_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rg.Argilla, "_default_client", MagicMock())


@pytest.fixture
def dataset() -> Any:
    return dataset_with(rg.LabelQuestion("label", labels=CLASS_NAMES))


def suggestions(run: RunClient, question: Any) -> list[tuple[Any, Any]]:
    """Value and score of each suggestion of a run as the SDK stores them."""
    records = [json.loads(line) for line in run.export(format="argilla").splitlines()]
    mapping = {name: name for name in SUGGESTION}
    stored = dataset_with(question).records._ingest_records(records, mapping=mapping, user_id=uuid4())
    return [(suggestion.value, suggestion.score) for record in stored for suggestion in record.suggestions]


def test_every_record_has_its_text_suggestion_and_metadata(run: RunClient, rows: list[Any], dataset: Any) -> None:
    records = [json.loads(line) for line in run.export(format="argilla").splitlines()]
    mapping = {name: name for name in SUGGESTION}
    stored = dataset.records._ingest_records(records, mapping=mapping, user_id=uuid4())
    assert len(stored) == ROWS
    for rank, (record, row) in enumerate(zip(stored, rows, strict=True), 1):
        number = IDS.index(row["id"])
        assert (record.external_id, record.fields["text"]) == (IDS[number], TEXTS[number])
        metadata = {item.name: item.value for item in record.metadata}
        assert metadata == {
            "focal_loss": pytest.approx(row["loss"]),
            "rank": rank,
            "given_label": CLASS_NAMES[LABELS[number]],
        }
        expected = [] if PREDICTED[number] == LABELS[number] else [CLASS_NAMES[PREDICTED[number]]]
        assert [suggestion.value for suggestion in record.suggestions] == expected
        assert all(0 < suggestion.score <= 1 for suggestion in record.suggestions)


def test_without_the_mapping_there_are_no_suggestions(run: RunClient, dataset: Any) -> None:
    records = [json.loads(line) for line in run.export(format="argilla").splitlines()]
    stored = dataset.records._ingest_records(records, mapping=None, user_id=uuid4())
    assert not any(record.suggestions for record in stored)


def test_spans_and_several_labels_are_suggestions(server: ServerProcess) -> None:
    with LossClient(server.url) as client:
        texts = client.put_run("texts", task="tokens", class_names=["O", "B-PER", "I-PER"])
        logits = [[[0, 4, 0], [0, 0, 4], [4, 0, 0]]]
        texts.push(
            0,
            "all",
            {"logits": logits, "targets": [[0, 0, 0]], "ids": ["a"]},
            attributes={"tokens": [["Ada", "King", "ran"]]},
        )
        question = rg.SpanQuestion("label", field="text", labels=["O", "PER"])
        assert suggestions(texts, question) == [
            ([{"label": "PER", "start": 0, "end": 8}], [pytest.approx(0.965, abs=1e-3)])
        ]
        photos = client.put_run("photos", task="multi_label", class_names=["sea", "sky"], config={"mode": "sigmoid"})
        photos.push(0, "all", {"logits": [[2.0, 1.0], [-1.0, -2.0]], "targets": [[1, 0], [0, 0]], "ids": ["a", "b"]})
        assert suggestions(photos, rg.MultiLabelQuestion("label", labels=["sea", "sky"])) == [
            (["sea", "sky"], [pytest.approx(0.881, abs=1e-3), pytest.approx(0.731, abs=1e-3)])
        ]
        texts.delete()
        photos.delete()
