"""The JSON of a result: all of it for `application/json`, and its lists of examples for every other format."""

from __future__ import annotations

from typing import NotRequired, cast

import orjson
from pydantic import JsonValue
from typing_extensions import TypedDict

from service.codecs.json_elements import output_json, regions_json
from service.schema.replies.service import (
    BatchLoss,
    ExampleOutput,
    ExcludedExample,
    HardestExample,
    LossReply,
    ReplyWarning,
)
from service.schema.request import REGIONS
from service.schema.result import BatchResult, LossResult


class _Id(TypedDict):
    id: NotRequired[str | int]


def json_bytes(value: object) -> bytes:
    """Encode as JSON; NumPy arrays become lists, NaN and infinities null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_text(value: object) -> str:
    """Encode as JSON text; see `json_bytes`."""
    return json_bytes(value).decode()


def loss_reply(result: LossResult) -> LossReply:
    """The reply of `POST /loss`, with NumPy arrays as the lists of `per_example`."""
    reply: LossReply = {
        "config_id": result.config_id,
        "device": result.device,
        "loss": result.loss,
        "num_examples": result.num_examples,
        "num_ignored": result.num_ignored,
        "num_excluded": result.num_excluded,
        "num_elements": result.num_elements,
        "batches": [_batch_loss(batch) for batch in result.batches],
        "hardest": hardest_examples(result),
        "excluded": excluded_examples(result),
    }
    if result.warnings:
        reply["warnings"] = warnings_of(result)
    return reply


def warnings_of(result: LossResult) -> list[ReplyWarning]:
    """Signs that the input is not what it should be."""
    return [{"batch": item.batch, "code": item.code, "message": item.message} for item in result.warnings]


def warnings_metadata(result: LossResult) -> dict[str, str]:
    """The warnings as metadata of a binary format; empty without any."""
    return {"warnings": json_text(warnings_of(result))} if result.warnings else {}


def hardest_examples(result: LossResult) -> list[HardestExample]:
    """The hardest examples; `id` only if the request has ids."""
    return [
        {
            "batch": hard.batch,
            "index": hard.index,
            **_id(hard.id),
            "loss": hard.loss,
            "contribution": hard.contribution,
        }
        for hard in result.hardest
    ]


def excluded_examples(result: LossResult) -> list[ExcludedExample]:
    """The excluded rows; `id` only if the request has ids."""
    return [
        {"batch": row.batch, "index": row.index, **_id(row.id), "code": row.code, "msg": row.msg}
        for row in result.excluded
    ]


def _id(identity: str | int | None) -> _Id:
    return {} if identity is None else {"id": identity}


def _batch_loss(batch: BatchResult) -> BatchLoss:
    columns: dict[str, object] = {name: output_json(values) for name, values in batch.per_example.items()}
    if batch.regions is not None:
        columns[REGIONS] = orjson.Fragment(regions_json(batch.regions))
    reply: BatchLoss = {
        "loss": batch.loss,
        "loss_sum": batch.loss_sum,
        "alpha_sum": batch.alpha_sum,
        "num_examples": batch.num_examples,
        "num_ignored": batch.num_ignored,
        "num_excluded": batch.num_excluded,
        "num_elements": batch.num_elements,
        "per_example": cast(dict[str, list[ExampleOutput]], columns),
    }
    if batch.per_element:
        elements = {name: output_json(values, batch.offsets) for name, values in batch.per_element.items()}
        reply["per_element"] = cast(dict[str, list[JsonValue]], elements)
    return reply
