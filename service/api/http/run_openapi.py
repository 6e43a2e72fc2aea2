"""What the OpenAPI document says of the routes of runs: query parameters and bodies with examples."""

from __future__ import annotations

from typing import Any

from service.api.http.openapi import FILE_BODIES

TEXT, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BOOLEAN = {"type": "boolean"}


def _query(**parameters: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": meaning, "schema": schema}
            for name, (meaning, schema) in parameters.items()
        ]
    }


def _json_body(examples: dict[str, Any], schema: dict[str, Any] | None = None) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"schema": schema or {"type": "object"}, "examples": named}}
    return {"requestBody": {"required": True, "content": content}}


WHAT_IF: dict[str, tuple[str, dict[str, Any]]] = {
    "alpha": ("What if: weights of the classes with commas, or none", TEXT),
    "gamma": ("What if: another gamma", {**NUMBER, "minimum": 0}),
}
EPOCH = {"epoch": ("`last`, or a number", TEXT)}
PAGE = {
    "limit": ("Rows at most", INTEGER),
    "offset": ("After how many rows", INTEGER),
}
WHAT_IF_QUERY = _query(**EPOCH, **WHAT_IF)
DIAGNOSTICS_QUERY = _query(fields=("Only these members, with commas; default: all", TEXT), **EPOCH, **WHAT_IF)
EXAMPLES_QUERY = _query(
    sort=("Scores with commas, a minus for descending; default -loss", TEXT),
    limit=("Rows at most, default 100", INTEGER),
    cursor=("next_cursor of the page before", TEXT),
    target=("The given class", INTEGER),
    prediction=("The predicted class", INTEGER),
    correct=("Whether they are the same", BOOLEAN),
    min_loss=("The least loss; min_ and max_ go with every score", NUMBER),
    max_loss=("The largest", NUMBER),
    **EPOCH,
    **WHAT_IF,
)
DYNAMICS_QUERY = _query(
    first=("Only the first epochs", INTEGER),
    sort=("A column, with a minus for descending; default area_under_margin", TEXT),
    region=("easy, ambiguous, hard_to_learn or between", TEXT),
    bins=("The data map as a grid of so many by so many cells", INTEGER),
    **PAGE,
    **WHAT_IF,
)
COMPARE_QUERY = _query(
    top=("How many examples are the hardest; default one in a hundred, at least 10", INTEGER),
    other_epoch=("Of the other run", TEXT),
    **EPOCH,
    **WHAT_IF,
)
EXPORT: dict[str, tuple[str, dict[str, Any]]] = {
    "format": ("label-studio, argilla, fiftyone, csv, jsonl (default) or parquet", TEXT),
    "queue": ("A queue; default: all examples of the epoch, the largest loss first", TEXT),
    "from_name": ("Label Studio: the control; Argilla: the question. Default label", TEXT),
    "to_name": ("Label Studio: the object; Argilla: the field. Default text", TEXT),
    "data_key": ("The attribute that is shown; default: the one called to_name", TEXT),
    "object_tag": ("Label Studio's tag: Text, Image, Audio, HyperText", TEXT),
    "image_key": ("FiftyOne: the attribute with the path of the image; default image", TEXT),
    "image_root": ("FiftyOne: what such a path begins with", TEXT),
    **EPOCH,
    **WHAT_IF,
}
EXPORT_QUERY = _query(**EXPORT)
EXPORT_PREVIEW_QUERY = _query(
    rows=("Rows to show, default 3, at most 20", {**INTEGER, "minimum": 1, "maximum": 20}), **EXPORT
)
EXAMPLE_BATCH = {
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]],
    "targets": [0, 1],
    "ids": ["a", "b"],
    "attributes": {"text": ["a cat", "a dog, I think"], "annotator": ["kim", "lee"]},
    "outputs": ["loss", "p_t"],
}
RUN_BODY = _json_body(
    {
        "plain": {"config": {"gamma": 2.0}, "class_names": ["cat", "dog", "bird"]},
        "without logits": {"config": {"alpha": [1.0, 2.0, 4.0]}, "store_logits": False},
    }
)
RUN_BATCH_BODY = _json_body({"contract": EXAMPLE_BATCH})
for _binary in ("application/x-safetensors", "application/vnd.apache.arrow.stream"):
    RUN_BATCH_BODY["requestBody"]["content"][_binary] = {"schema": {"type": "string", "format": "binary"}}
RUN_BATCH_BODY["requestBody"]["content"] |= FILE_BODIES
QUEUE_BODY = _json_body(
    {
        "margin": {"strategy": "logit_margin", "budget": 50},
        "with a control": {
            "strategy": "mix",
            "mix": {"area_under_margin": 0.8, "random": 0.2},
            "budget": 100,
            "exclude_reviewed": False,
        },
        "of some": {"strategy": "top_loss", "only": {"target": 1, "ranges": {"loss": [1.0, None]}}},
        "by class": {"name": "monday", "strategy": "top_loss", "budget": 100, "per_class": "equal"},
    }
)
QUEUE_BODY |= _query(preview=("Make it, and keep nothing", BOOLEAN), **WHAT_IF)
QUEUE_QUERY = _query(
    sort=(
        "rank (the default), id, target, prediction, suggested, verdict, score, share, and scores, with commas",
        TEXT,
    ),
    target=("The given class", INTEGER),
    prediction=("The predicted class", INTEGER),
    suggested=("The suggested class", INTEGER),
    verdict=("open, reviewed, ok, wrong or unsure", TEXT),
    text=("What the id or an attribute contains; attribute.NAME=text asks for one attribute as a whole", TEXT),
    ranks=("Only the rows of these ranks, with commas", TEXT),
    limit=("Rows at most, default 100", INTEGER),
    offset=("After how many rows", INTEGER),
    around=("Instead of offset: the page with the row of this rank", INTEGER),
    fields=("Only these members of each row, with commas", TEXT),
    facets=("Tell the attributes with up to 20 texts", BOOLEAN),
)
REVIEWS_BODY = _json_body(
    {"two": [{"id": "a", "verdict": "ok"}, {"id": "b", "verdict": "wrong", "label": 2, "reviewer": "kim"}]},
    {"type": "array", "items": {"type": "object"}},
)
LABEL_STUDIO_BODY = _json_body({"one": {"tasks": [{"id": 1, "data": {"external_id": "a", "text": "a cat"}}]}})
