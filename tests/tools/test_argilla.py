"""The Argilla SDK reads the export as the documentation says. It validates records without a server."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import pytest

from service.client import RunClient
from tests.tools.conftest import CLASS_NAMES, IDS, LABELS, PREDICTED, ROWS, TEXTS

rg = pytest.importorskip("argilla", reason="argilla is not installed")
SUGGESTION = ("label.suggestion", "label.suggestion.score", "label.suggestion.agent")


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rg.Argilla, "_default_client", MagicMock())
    settings = rg.Settings(
        fields=[rg.TextField("text")],
        questions=[rg.LabelQuestion("label", labels=CLASS_NAMES)],
        metadata=[
            rg.FloatMetadataProperty("focal_loss"),
            rg.IntegerMetadataProperty("rank"),
            rg.TermsMetadataProperty("given_label", options=CLASS_NAMES),
        ],
    )
    return rg.Dataset("tools", settings=settings)


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
