"""The rows of annotations in requests: from JSON, or from a table of any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.codecs.base import DecodeOptions
from service.codecs.tables.batch import TableReader, TableRows, read_rows
from service.diagnostics.chunks import Integers
from service.errors import DecodeError, InvalidIdsError, InvalidRequestError, InvalidTargetError
from service.formats.arrays import Body
from service.formats.arrow_types import is_text, plain
from service.formats.column_names import ResolvedColumns, find_targets
from service.formats.columns import ColumnError, ids_of_column, labels_as_sent, numeric_labels
from service.formats.labels import ClassNames
from service.formats.part_names import ID_NAMES, NamesError, find_name, two_names
from service.schema.faults import fault, validation_fault

MAX_ANNOTATOR_NAME = 200
NAMES = ("id", "annotator", "label")
ANNOTATOR_NAMES = ("annotator", "annotators", "annotator_id")


class AnnotationRequest(BaseModel):
    """An annotator's label of an example, as a client sends it.

    Args:
        id: Id of the example; an integer stands for its decimal text.
        annotator: Name of the annotator; an integer stands for its decimal text.
        label: Class of the label, by number or name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str | int, Field(union_mode="left_to_right")]
    annotator: Annotated[str | int, Field(union_mode="left_to_right")]
    label: Annotated[int, Field(ge=0)] | str


_REQUESTS = TypeAdapter(list[AnnotationRequest])


class AnnotationRows(NamedTuple):
    """Annotations of a request, not yet compared with the run.

    Args:
        ids: Ids of the examples, texts.
        annotators: Names of the annotators, texts.
        labels: (n,) int64 classes of any number.
        names: Names of the columns of ids, annotators and labels, for messages.
    """

    ids: pa.Array
    annotators: pa.Array
    labels: Integers
    names: tuple[str, str, str]


def rows_of_json(value: object, class_names: ClassNames | None) -> AnnotationRows:
    """Validate a decoded JSON list of `AnnotationRequest`.

    Raises:
        InvalidRequestError: An item is no annotation; names the row and the member.
    """
    try:
        requests = _REQUESTS.validate_python(value)
    except ValidationError as err:
        raise validation_fault(InvalidRequestError, err) from err
    columns = {
        "id": pa.array([str(request.id) for request in requests], pa.string()),
        "annotator": pa.array([str(request.annotator) for request in requests], pa.string()),
    }
    labels = np.empty(len(requests), object)
    labels[:] = [request.label for request in requests]
    return _checked(columns["id"], columns["annotator"], labels, class_names, NAMES)


def find_annotation_columns(names: Sequence[str]) -> ResolvedColumns:
    """Find the columns of ids, annotators and labels by their usual names.

    Raises:
        NamesError: A column is missing, or there are two for one of them.
    """
    identity = find_name("ids", names)
    if identity is None:
        raise NamesError(f"ids missing: no column is named {', '.join(ID_NAMES)}", "ids")
    found = [name for name in ANNOTATOR_NAMES if name in names]
    if not found:
        raise NamesError(f"annotators missing: no column is named {', '.join(ANNOTATOR_NAMES)}", "annotators")
    if len(found) > 1:
        raise two_names("annotators", *found[:2])
    return ResolvedColumns((), find_targets(names), identity, (found[0],))


def read_table(reader: TableReader, body: Body, options: DecodeOptions) -> TableRows:
    """Read a table with columns of ids, annotators and labels.

    Args:
        reader: Reader of the table's format.
        body: The whole body.
        options: Limits of bytes and rows.

    Raises:
        DecodeError: The body is not of the format.
        InvalidRequestError: A column is missing or has a type of no use.
        BodyTooLargeError, TooManyExamplesError: The table is larger than a limit.
    """
    with errors_of_columns(NAMES):
        return read_rows(reader, body, options, find_annotation_columns)


def rows_of_table(rows: TableRows, class_names: ClassNames | None) -> AnnotationRows:
    """Validate the rows of `read_table`.

    Raises:
        InvalidRequestError: A value is no id, name or label; names row and column.
    """
    columns = rows.columns
    annotator, identity = columns.attributes[0], columns.id or ""
    names = (identity, annotator, columns.targets)
    with errors_of_columns(names):
        ids = _texts(rows.table[identity], identity)
        annotators = _texts(rows.table[annotator], annotator)
        labels = labels_as_sent(rows.table[columns.targets], columns.targets, 0)
        if labels.ndim != 1:
            raise ColumnError("lists of labels; a row has one label", None, columns.targets)
    return _checked(ids, annotators, labels, class_names, names)


@contextmanager
def errors_of_columns(names: tuple[str, str, str]) -> Iterator[None]:
    """Convert the errors of columns to errors of the request; `names` are those of `AnnotationRows`."""
    kinds = dict(zip(names, (InvalidIdsError, InvalidRequestError, InvalidTargetError), strict=True))
    try:
        yield
    except ColumnError as err:
        loc = [part for part in (err.row, err.column) if part is not None]
        detail = f"{err.place}: {err.msg}" if err.place else err.msg
        raise fault(kinds.get(err.column or "", DecodeError), err.msg, *loc, detail=detail) from err


def _texts(column: pa.ChunkedArray, name: str) -> pa.Array:
    """A column of texts or integers as texts."""
    values = plain(column)
    if not values.null_count and (is_text(values.type) or pat.is_integer(values.type)):
        return values.cast(pa.string())
    return pa.array([str(value) for value in ids_of_column(values, name, 0)], pa.string())


def _checked(
    ids: pa.Array,
    annotators: pa.Array,
    labels: np.ndarray,
    class_names: ClassNames | None,
    names: tuple[str, str, str],
) -> AnnotationRows:
    with errors_of_columns(names):
        lengths = pc.utf8_length(annotators).to_numpy()
        wrong = np.flatnonzero((lengths == 0) | (lengths > MAX_ANNOTATOR_NAME))
        if len(wrong):
            msg = f"the name of an annotator has 1 to {MAX_ANNOTATOR_NAME} characters, not {lengths[wrong[0]]}"
            raise ColumnError(msg, int(wrong[0]), names[1])
        classes = numeric_labels(labels, names[2], 0, whole=True, keep_missing=False, class_names=class_names)
    return AnnotationRows(ids, annotators, classes.astype(np.int64), names)
