"""Argilla records, one flat JSON object a line.

The question is `options.from_name`, the text field `options.to_name`. Load a file with the SDK:

    records = [json.loads(line) for line in open("run.argilla.jsonl")]
    dataset.records.log(records, mapping={name: name for name in
                        ("label.suggestion", "label.suggestion.score", "label.suggestion.agent")})

The mapping is needed: without it the SDK passes over names with dots (`suggestion_mapping` makes it). What shall be
sorted or filtered by has to be declared in the data set's settings under its name here, for example
`rg.FloatMetadataProperty("focal_loss")`, `rg.IntegerMetadataProperty("rank")` and
`rg.TermsMetadataProperty("given_label")`; the SDK passes over the rest, and over null.

Source: argilla SDK records/_mapping/_mapper.py, server api/schemas/v1/{records,suggestions,metadata_properties}.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from service.exports.json_stream import lines
from service.exports.rows import TOOL_NAMES, ExportOptions, ExportRow, beside, probability, shown_data, tool_fields


def write_argilla(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSONL for `rg.Dataset.records.log`."""
    return lines(record(row, options) for row in rows)


def record(row: ExportRow, options: ExportOptions) -> dict[str, Any]:
    """One record; no suggestion where the model has none.

    An attribute with the name of a score, of the question (the SDK would take it for a suggestion) or `id` is kept
    under `attribute_<name>`.
    """
    attributes = {name: value for name, value in row.attributes.items() if name != options.shown_key}
    value, score, agent = suggestion_mapping(options)
    suggestion = {value: row.suggested_label, score: probability(row), agent: options.model_version}
    taken = (*TOOL_NAMES.values(), "id", options.from_name, options.to_name, *suggestion)
    return {
        "id": row.id,
        options.to_name: shown_data(row, options),
        **beside(attributes, taken),
        **tool_fields(row),
        **(suggestion if row.suggested_label is not None else {}),
    }


def suggestion_mapping(options: ExportOptions) -> dict[str, str]:
    """`mapping` of `records.log`: value, score and agent of the suggestion, each under its own name."""
    names = (f"{options.from_name}.suggestion{part}" for part in ("", ".score", ".agent"))
    return {name: name for name in names}
