"""Events and an export that label-studio 1.23.2 sent, without the members that nothing reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("label_studio_events.json").read_text())
CLASS_NAMES = ["spam", "ham", "news"]


def choice(label: str, **region: Any) -> dict[str, Any]:
    """A region of the control of the label."""
    return {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}} | region


def event_of(
    identity: str, result: list[dict[str, Any]], *, number: int = 1, second: int = 0, **annotation: Any
) -> dict[str, Any]:
    """An event of an annotation with the number, changed in a second of a minute."""
    time = f"2026-11-30T00:25:{second:02}.000000Z"
    members = {"id": number, "task": 900, "project": 1, "unique_id": f"uuid-{number}", "completed_by": 1}
    return {
        "action": "ANNOTATION_UPDATED",
        "annotation": {**members, "was_cancelled": False, "updated_at": time, "result": result} | annotation,
        "task": {"id": 900, "data": {"external_id": identity}, "meta": {}},
        "project": {"id": 1, "token": "project-token"},
    }


def deletion_of(*numbers: int, project: int = 1) -> dict[str, Any]:
    return {
        "action": "ANNOTATIONS_DELETED",
        "annotations": [{"id": number} for number in numbers],
        "project": {"id": project},
    }
