"""Requests about the quality of the labels and reviews of a run: remaining errors, agreement, gain, annotators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from service.client.calls import JSON_HEADERS, Call, json_object
from service.client.run_calls import FILE_CODINGS, REVIEW_FILES, QueryValue, query_text, run_path
from service.errors import InvalidRequestError
from service.schema.replies.agreement import Agreement
from service.schema.replies.consensus import AddedAnnotations, Consensus
from service.schema.replies.gain import Gain
from service.schema.replies.remaining import Remaining

# Media types of files of annotations, by extension.
ANNOTATION_FILES = {extension: kind for extension, kind in REVIEW_FILES.items() if kind != "application/x-ndjson"}


def remaining_call(name: str, **query: QueryValue) -> Call[Remaining]:
    """`GET /runs/{run}/remaining`."""
    return Call("GET", run_path(name, "remaining") + query_text(**query), json_object)


def agreement_call(name: str, **query: QueryValue) -> Call[Agreement]:
    """`GET /runs/{run}/agreement`."""
    return Call("GET", run_path(name, "agreement") + query_text(**query), json_object)


def gain_call(name: str, other: str, **query: QueryValue) -> Call[Gain]:
    """`GET /runs/{run}/gain/{other}`."""
    return Call("GET", run_path(name, "gain", other) + query_text(**query), json_object)


def annotate_call(name: str, annotations: Iterable[Mapping[str, object]] | str | Path) -> Call[AddedAnnotations]:
    """`PUT /runs/{run}/annotations` with annotations, or with the file of a path.

    Raises:
        InvalidRequestError: Files with this extension have no annotations.
    """
    path = run_path(name, "annotations")
    if not isinstance(annotations, str | Path):
        body = orjson.dumps([dict(annotation) for annotation in annotations])
        return Call("PUT", path, json_object, body, JSON_HEADERS)
    file = Path(annotations)
    coding = FILE_CODINGS.get(file.suffix.lower())
    extension = file.suffix if coding is None else Path(file.stem).suffix
    media_type = ANNOTATION_FILES.get(extension.lower())
    if media_type is None:
        raise InvalidRequestError(f"unknown extension {extension!r}: expected one of {', '.join(ANNOTATION_FILES)}")
    headers = {"Content-Type": media_type} | ({} if coding is None else {"Content-Encoding": coding})
    return Call("PUT", path, json_object, file.read_bytes(), headers)


def delete_annotations_call(name: str) -> Call[None]:
    """`DELETE /runs/{run}/annotations`."""
    return Call("DELETE", run_path(name, "annotations"), lambda response: None)


def consensus_call(name: str, **query: QueryValue) -> Call[Consensus]:
    """`GET /runs/{run}/consensus`."""
    return Call("GET", run_path(name, "consensus") + query_text(**query), json_object)
