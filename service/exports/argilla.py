"""Argilla records, one flat JSON object per line.

The question is `options.from_name`, the text field `options.to_name`. Load a file with the SDK:

    records = [json.loads(line) for line in open("run.argilla.jsonl")]
    dataset.records.log(records, mapping={name: name for name in
                        ("label.suggestion", "label.suggestion.score", "label.suggestion.agent")})

Without the mapping (see `suggestion_mapping`) the SDK ignores names with dots. To sort or filter by a member, declare
it under its name in the settings of the data set, for example `rg.FloatMetadataProperty("focal_loss")`,
`rg.IntegerMetadataProperty("rank")` and `rg.TermsMetadataProperty("given_label")`. The SDK ignores undeclared members
and null.

Source: argilla SDK records/_mapping/_mapper.py, server api/schemas/v1/{records,suggestions,metadata_properties}.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.exports.json_stream import lines
from service.exports.rows import (
    TOOL_NAMES,
    ExportOptions,
    ExportRow,
    probability,
    rename_reserved,
    shown_data,
    tool_fields,
)
from service.schema.json_values import JsonObject


def write_argilla(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSONL for `rg.Dataset.records.log`."""
    return lines(record(row, options) for row in rows)


def record(row: ExportRow, options: ExportOptions) -> JsonObject:
    """The record of a row, without a suggestion if the model has none.

    An attribute named like a score, the question (the SDK would read it as a suggestion) or `id` is renamed to
    `attribute_<name>`.
    """
    attributes = {name: value for name, value in row.attributes.items() if name != options.shown_key}
    value, score, agent = suggestion_mapping(options)
    suggestion: JsonObject = {value: row.suggested_label, score: probability(row), agent: options.model_version}
    reserved = (*TOOL_NAMES.values(), "id", options.from_name, options.to_name, *suggestion)
    return {
        "id": row.id,
        options.to_name: shown_data(row, options),
        **rename_reserved(attributes, reserved),
        **tool_fields(row),
        **(suggestion if row.suggested_label is not None else {}),
    }


def suggestion_mapping(options: ExportOptions) -> dict[str, str]:
    """The argument `mapping` of `records.log`: value, score and agent of the suggestion, each mapped to itself."""
    names = (f"{options.from_name}.suggestion{part}" for part in ("", ".score", ".agent"))
    return {name: name for name in names}
