"""Scored parts: the result of a chunk as a table, which the store keeps and the output is made of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from service.cli.score.chunks import Chunk
from service.cli.score.options import ScoringOptions
from service.codecs.arrow.columns import element_levels, nested_column, regions_column
from service.codecs.element_outputs import PREFIX
from service.formats.arrow_types import id_type, in_lists
from service.formats.labels import NO_TARGET
from service.schema.request import REGIONS, Column
from service.schema.result import BatchResult, denominator, divided_by

SUMS = ("num_examples", "num_ignored", "num_excluded", "num_elements", "loss_sum", "alpha_sum")


def scored_part(chunk: Chunk, result: BatchResult, options: ScoringOptions, *, names_file: bool) -> pa.Table:
    """The rows of a chunk with their scores, null where there is none, and the sums of the chunk as metadata.

    Contributions are multiplied by the divisor of the chunk: later they are divided by that of all chunks.

    Args:
        chunk: The rows.
        result: Their scores.
        options: Options of the run.
        names_file: True for a column `file`.
    """
    columns = _names(chunk, names_file=names_file)
    if options.layout == "rows" or options.structure.get("elements"):
        columns["target"] = _targets(chunk.targets, chunk.offsets)
    divisor = _divisor(result, options)
    for name, values in result.per_example.items():
        columns[name] = _column(values * np.float64(divisor) if name == "contribution" else values)
    for name, values in result.per_element.items():
        scaled = values * np.float64(divisor) if name == "contribution" else values
        columns[PREFIX + name] = _column(scaled, result.offsets)
    if result.regions is not None:
        columns[REGIONS] = regions_column(result)
    metadata = {name: repr(getattr(result, name)) for name in SUMS} | {"divisor": repr(float(divisor))}
    return pa.table(columns).replace_schema_metadata(metadata)


def _names(chunk: Chunk, *, names_file: bool) -> dict[str, pa.Array]:
    rows = chunk.num_rows
    if chunk.ids is None:
        columns = {"row": pa.array(np.arange(chunk.first_row, chunk.first_row + rows))}
    else:
        kind = id_type(chunk.ids)
        columns = {"id": pa.array(map(str, chunk.ids) if kind == pa.string() else chunk.ids, kind)}
    return columns | ({"file": pa.array([chunk.source.path] * rows)} if names_file else {})


def _targets(targets: Column, offsets: Column | None) -> pa.Array:
    """The column of targets, in which an `ignore_index` is a number like others."""
    return _column(targets, offsets, np.isnan(targets) | (targets == NO_TARGET))


def _column(values: Column, offsets: Column | None = None, missing: Column | None = None) -> pa.Array:
    kind = in_lists(pa.from_numpy_dtype(values.dtype), element_levels(values, offsets))
    return nested_column(values, offsets, kind, missing)


def _divisor(result: BatchResult, options: ScoringOptions) -> float:
    """The number by which the scorer has divided the contributions."""
    num_counted = result.num_examples - result.num_ignored - result.num_excluded
    count = divided_by(options.divisor, num_counted, result.num_elements)
    return denominator(options.config.reduction, result.alpha_sum, count) or 1
