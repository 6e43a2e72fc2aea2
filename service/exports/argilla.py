"""Argilla records, one flat JSON object per line.

The question is `options.from_name`, the text field `options.to_name`. Load a file with the SDK:

    records = [json.loads(line) for line in open("run.argilla.jsonl")]
    dataset.records.log(records, mapping={name: name for name in
                        ("label.suggestion", "label.suggestion.score", "label.suggestion.agent")})

Without the mapping (see `suggestion_mapping`) the SDK ignores names with dots. To sort or filter by a member, declare
it under its name in the settings of the data set, for example `rg.FloatMetadataProperty("focal_loss")`,
`rg.IntegerMetadataProperty("rank")` and `rg.TermsMetadataProperty("given_label")`. The SDK ignores undeclared members
and null.

The question is of labels, of several labels (`rg.MultiLabelQuestion`) or of spans (`rg.SpanQuestion`), by the task.

Source: argilla SDK records/_mapping/_mapper.py, server api/schemas/v1/{records,suggestions,metadata_properties}.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.exports.json_stream import lines
from service.exports.label_sets import predicted_labels
from service.exports.rows import ExportOptions, ExportRow, known_probability, probability, rename_reserved, tool_fields
from service.exports.spans import shown_text, suggested_spans
from service.schema.json_values import JsonObject, JsonValue


def write_argilla(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSONL for `rg.Dataset.records.log`."""
    return lines(record(row, options) for row in rows)


def record(row: ExportRow, options: ExportOptions) -> JsonObject:
    """The record of a row, without a suggestion if the model has none.

    An attribute named like a score, the question (the SDK would read it as a suggestion) or `id` is renamed to
    `attribute_<name>`.
    """
    attributes = {name: value for name, value in row.attributes.items() if name != options.shown_key}
    suggested, p = _suggestion(row, options)
    names, fields = (
        suggestion_mapping(options),
        tool_fields(row, options) | {"run": options.run, "queue": options.queue},
    )
    reserved = (*fields, "id", options.from_name, options.to_name, *names)
    suggestion: JsonObject = dict(zip(names, (suggested, p, options.model_version), strict=True))
    return {
        "id": row.id,
        options.to_name: shown_text(row, options),
        **rename_reserved(attributes, reserved),
        **fields,
        **(suggestion if suggested else {}),
    }


def _suggestion(row: ExportRow, options: ExportOptions) -> tuple[JsonValue, JsonValue]:
    """Value and score of the suggestion: a label, all predicted labels, or spans; an empty value if there is none.

    A list has a list of scores, or None if one of them is unknown.
    """
    if row.suggestion == "hidden":
        return None, None
    if options.task == "classification":
        return row.suggested_label, probability(row)
    values: list[JsonValue]
    if options.task == "multi_label":
        labels = predicted_labels(row, options)
        values, scores = [label for label, _ in labels], [p for _, p in labels]
    else:
        spans = list(suggested_spans(row, options))
        values = [{"label": span.label, "start": span.start, "end": span.end} for span in spans]
        scores = [span.p for span in spans]
    known = [p for p in map(known_probability, scores) if p is not None]
    return values, [*known] if len(known) == len(scores) else None


def suggestion_mapping(options: ExportOptions) -> dict[str, str]:
    """The argument `mapping` of `records.log`: value, score and agent of the suggestion, each mapped to itself."""
    names = (f"{options.from_name}.suggestion{part}" for part in ("", ".score", ".agent"))
    return {name: name for name in names}
