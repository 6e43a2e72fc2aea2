"""Requests that labelling tools send, too."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from service.client.calls import JSON_HEADERS, Call, json_object
from service.client.run_calls import run_path
from service.schema.replies.exports import AnnotationsReply


def label_studio_event_call(name: str, event: Mapping[str, object]) -> Call[AnnotationsReply]:
    """`POST /runs/{run}/label-studio/webhook`. Repeatable: an event that is sent again changes nothing."""
    body = orjson.dumps(event)
    return Call("POST", run_path(name, "label-studio", "webhook"), json_object, body, JSON_HEADERS)
