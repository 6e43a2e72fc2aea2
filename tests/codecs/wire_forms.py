"""One request as the bytes of every format, in the types and encodings that programs use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.json import JsonCodec
from service.codecs.negotiation import reader
from service.codecs.open_inference import decode_request
from service.codecs.safetensors import SafetensorsCodec
from service.schema.request import LossRequest
from tests.codecs.file_bodies import ARROW, PARQUET, arrow_file, arrow_stream, parquet_file

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# Arrow types that Parquet has no counterpart for, or that its writer refuses.
NOT_IN_PARQUET = ("list_view", "run_ends")


@dataclass(frozen=True)
class PlainRows:
    """The rows of a batch: logits (None: missing), labels and ids of one type each."""

    logits: list[list[Any]]
    labels: list[Any]
    ids: list[Any] | None


@dataclass(frozen=True)
class Sent:
    """A request, and how it is written.

    Args:
        batches: The rows.
        logits_type: One of FLOATS or INTEGERS.
        label_type: One of FLOATS or INTEGERS, `bool`, `text` or `decimal`.
        id_type: One of INTEGERS, `text`, `bytes` or `decimal`.
        lists: Arrow type of the logits: `fixed`, `list`, `large`, `list_view`, `tensor` or `columns`.
        labels_as: Encoding of labels and ids in Arrow: `plain`, `dictionary`, `view` or `run_ends`.
        names: Names of labels and ids.
        options: Other members of the request.
    """

    batches: list[PlainRows]
    logits_type: str = "float64"
    label_type: str = "int64"
    id_type: str = "text"
    lists: str = "list"
    labels_as: str = "plain"
    names: tuple[str, str] = ("targets", "ids")
    options: dict[str, Any] = field(default_factory=dict)


Decode = Callable[[], LossRequest]


def forms(sent: Sent) -> Iterator[tuple[str, Decode]]:
    """The formats that can hold the request, each with a function that decodes it."""
    logits = [value for rows in sent.batches for row in rows.logits for value in row or [None]]
    missing = None in logits
    if missing or np.isfinite(logits).all():
        yield "json", lambda: JsonCodec().decode(bytearray(_json(sent)))
    if not missing:
        yield "safetensors", lambda: SafetensorsCodec().decode(bytearray(_safetensors(sent)))
    yield "arrow stream", lambda: ArrowCodec().decode(bytearray(_arrow(sent, arrow_stream)))
    if len(sent.batches) != 1:
        return
    yield "arrow file", lambda: ARROW.decode(bytearray(_arrow(sent, arrow_file)))
    yield "stream as a file", lambda: ARROW.decode(bytearray(_arrow(sent, arrow_stream, compression="zstd")))
    if sent.lists not in NOT_IN_PARQUET and sent.labels_as not in NOT_IN_PARQUET:
        yield "parquet", lambda: PARQUET.decode(bytearray(_arrow(sent, parquet_file)))
    if (
        not sent.options
        and None not in sent.batches[0].logits
        and sent.id_type != "decimal"
        and None not in (sent.batches[0].ids or ())
    ):
        for name, dialect in CSV_DIALECTS.items():
            yield name, partial(_read_csv, sent, *dialect)
    if not missing and None not in sent.batches[0].labels:
        for binary in (False, True):
            body, length = _inference(sent, binary=binary)
            if body is not None:
                yield (
                    f"open inference, binary {binary}",
                    lambda body=body, length=length: decode_request(bytearray(body), length).loss_request,
                )


# Media type, separator, decimal mark and encoding.
CSV_DIALECTS = {
    "csv": ("text/csv", ",", ".", "utf-8"),
    "csv of Excel": ("text/csv; charset=utf-16", ";", ",", "utf-16"),
    "csv with tabs": ("text/csv", "\t", ",", "utf-8-sig"),
    "tsv": ("text/tab-separated-values", "\t", ".", "utf-8"),
    "csv with pipes": ("text/csv; delimiter=pipe", "|", ".", "utf-8"),
    "csv with spaces": ("text/csv", ", ", ".", "utf-8"),
}


def _json(sent: Sent) -> bytes:
    target, identity = sent.names
    batches = [
        {"logits": rows.logits, target: [*map(_finite, rows.labels)]}
        | ({} if rows.ids is None else {identity: [*map(_plain, rows.ids)]})
        for rows in sent.batches
    ]
    return json.dumps({**sent.options, **(batches[0] if len(batches) == 1 else {"batches": batches})}).encode()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else _plain(value)


def _has(values: list[Any], value: Any) -> bool:
    return any(value in item if isinstance(item, list) else item is value for item in values)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_plain, value)]
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value.decode() if isinstance(value, bytes) else value


def _safetensors(sent: Sent) -> bytes:
    tensors: dict[str, Any] = {}
    in_json: list[dict[str, Any]] = []
    for number, rows in enumerate(sent.batches):
        tensors[f"logits.{number}"] = _logits(rows, sent.logits_type)
        in_json.append({})
        parts = {sent.names[0]: (rows.labels, sent.label_type), sent.names[1]: (rows.ids, sent.id_type)}
        for name, (values, kind) in parts.items():
            if values is None:
                continue
            if not _has(values, None) and kind in (*FLOATS, *INTEGERS, "bool"):
                tensors[f"{name}.{number}"] = np.array(values, kind)
            else:
                in_json[-1][name] = [*map(_plain, values)]
    return bytes(safetensors.numpy.save(tensors, {"request": json.dumps({**sent.options, "batches": in_json})}))


def _logits(rows: PlainRows, kind: str) -> np.ndarray[Any, Any]:
    return np.array(rows.logits, kind).reshape(len(rows.logits), -1)


def _arrow(sent: Sent, write: Callable[..., bytes], **options: Any) -> bytes:
    tables = [pa.table(_columns(rows, sent)) for rows in sent.batches]
    schema = tables[0].schema.with_metadata({"request": json.dumps(sent.options)})
    tables = [table.cast(schema) if table.schema != schema else table for table in tables]
    if len(tables) == 1:
        return write(tables[0].replace_schema_metadata(schema.metadata), **options)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_batch(table.combine_chunks().to_batches()[0])
    return bytes(sink.getvalue())


def _columns(rows: PlainRows, sent: Sent) -> dict[str, pa.Array]:
    target, identity = sent.names
    columns = _logit_columns(rows, sent)
    kind = _arrow_type(sent.label_type)
    kind = pa.list_(kind) if isinstance(rows.labels[0], list) else kind
    columns[target] = _encoded(pa.array(rows.labels, kind), sent.labels_as)
    if rows.ids is not None:
        columns[identity] = _encoded(pa.array(rows.ids, _arrow_type(sent.id_type)), sent.labels_as)
    return columns


def _arrow_type(kind: str) -> pa.DataType:
    types = {"text": pa.string(), "bytes": pa.binary(), "bool": pa.bool_(), "decimal": pa.decimal128(22, 2)}
    return types.get(kind) or pa.from_numpy_dtype(kind)


def _encoded(column: pa.Array, kind: str) -> pa.Array:
    if kind == "dictionary" and not pa.types.is_boolean(column.type):
        return column.dictionary_encode()
    if kind == "view" and pa.types.is_string(column.type):
        return column.cast(pa.string_view())
    return pc.run_end_encode(column) if kind == "run_ends" else column


def _logit_columns(rows: PlainRows, sent: Sent) -> dict[str, pa.Array]:
    kind, width = pa.from_numpy_dtype(sent.logits_type), len(next(row for row in rows.logits if row))
    if sent.lists == "columns":
        return {
            f"logit_{number}": pa.array(_cells([row[number] for row in rows.logits], sent), kind)
            for number in range(width)
        }
    if sent.lists == "tensor":
        flat = pa.array([value for row in rows.logits for value in _cells(row, sent)], kind)
        storage = pa.FixedSizeListArray.from_arrays(flat, width)
        return {"logits": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, [width]), storage)}
    lists = {
        "fixed": pa.list_(kind, width),
        "list": pa.list_(kind),
        "large": pa.large_list(kind),
        "list_view": pa.list_view(kind),
    }
    return {"logits": pa.array([_cells(row, sent) for row in rows.logits], lists[sent.lists])}


def _cells(values: list[Any], sent: Sent) -> Any:
    if values is None:
        return None
    return [np.float16(value) if value is not None and sent.logits_type == "float16" else value for value in values]


def _read_csv(sent: Sent, media_type: str, separator: str, mark: str, encoding: str) -> LossRequest:
    return reader(media_type).decode(bytearray(_csv(sent, separator, mark).encode(encoding)))


def _csv(sent: Sent, separator: str, mark: str) -> str:
    (rows,) = sent.batches
    columns = {f"logit_{number}": [row[number] for row in rows.logits] for number in range(len(rows.logits[0]))}
    if len(columns) == 1:
        columns = {"logits": columns["logit_0"]}
    columns[sent.names[0]] = rows.labels
    if rows.ids is not None:
        columns[sent.names[1]] = rows.ids
    lines = [[*columns], *([_cell(value, mark) for value in line] for line in zip(*columns.values(), strict=True))]
    if separator == ", ":
        quoted = [
            ['"' + cell.replace('"', '""') + '"' if set(cell) & set('",\n') else cell for cell in line]
            for line in lines
        ]
        return "".join(separator.join(line) + "\r\n" for line in quoted)
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(lines)
    return text.getvalue()


def _cell(value: Any, mark: str) -> str:
    text = "" if value is None else str(_plain(value))
    return text.replace(".", mark) if isinstance(value, float | Decimal) else text


def _inference(sent: Sent, *, binary: bool) -> tuple[bytes | None, int]:
    (rows,) = sent.batches
    parts = [("logits", rows.logits, sent.logits_type), (sent.names[0], rows.labels, sent.label_type)]
    parts += [] if rows.ids is None else [(sent.names[1], rows.ids, sent.id_type)]
    inputs, tail = [], b""
    for name, values, kind in parts:
        if kind == "decimal" or _has(values, None):
            return None, 0
        texts = [str(_plain(value)) for item in values for value in (item if isinstance(item, list) else [item])]
        array = (
            None if kind in ("text", "bytes") else _logits(rows, kind) if name == "logits" else np.array(values, kind)
        )
        datatype = _datatype(kind)
        entry: dict[str, Any] = {
            "name": name,
            "datatype": datatype,
            "shape": np.shape(values) if array is None else array.shape,
        }
        if binary:
            encoded = [len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts]
            content = b"".join(encoded) if array is None else array.tobytes()
            tail += content
            entry["parameters"] = {"binary_data_size": len(content)}
        elif datatype == "FP16" or (array is not None and not np.isfinite(array).all()):
            return None, 0
        else:
            entry["data"] = texts if array is None else array.tolist()
        inputs.append(entry)
    header = json.dumps({"inputs": inputs, "parameters": sent.options}).encode()
    return header + tail, len(header)


def _datatype(kind: str) -> str:
    names = {"text": "BYTES", "bytes": "BYTES", "bool": "BOOL"} | {name: f"FP{name[5:]}" for name in FLOATS}
    return names.get(kind, kind.upper())
