"""Files with rows of many elements, in every format that holds them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from safetensors.numpy import save_file

from service.schema.request import Batch, Column
from tests.codecs.structured_forms import nested_column

ENDINGS = ("parquet", "arrow", "jsonl", "npz", "safetensors")


def write(folder: Path, ending: str, batch: Batch, *, with_ids: bool = True) -> Path:
    """Write a batch to the file `rows.<ending>` and return its path; safetensors hold no texts, so no ids.

    Arrow files have lists of fixed sizes, or tensors; the other tables lists of any size.
    """
    path = folder / f"rows.{ending}"
    numbers = {"logits": batch.logits} if batch.statistics is None else dict(batch.statistics)
    parts: dict[str, Any] = numbers | {"targets": batch.targets}
    ids = {"id": names(batch)} if with_ids else {}
    if ending in ("npz", "safetensors"):
        parts |= {} if batch.offsets is None else {"offsets": batch.offsets}
        if ending == "npz":
            np.savez(path, **parts, **ids)
        else:
            save_file({name: np.ascontiguousarray(values) for name, values in parts.items()}, path)
        return path
    if ending == "jsonl":
        columns = {name: rows_of(values, batch.offsets) for name, values in parts.items()} | ids
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    table = pa.table(
        {name: column(values, batch.offsets, fixed=ending == "arrow") for name, values in parts.items()} | ids
    )
    if ending == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=2)
    else:
        pyarrow.feather.write_feather(table, str(path), compression="uncompressed", chunksize=3)
    return path


def names(batch: Batch) -> list[str]:
    return [f"row-{row}" for row in range(batch.num_examples)]


def rows_of(values: Column, offsets: Column | None) -> list[Any]:
    """The values of each row as nested lists."""
    if offsets is None:
        return list(values.tolist())
    return [values[start:stop].tolist() for start, stop in pairwise(offsets.tolist())]


def column(values: Column, offsets: Column | None, *, fixed: bool) -> pa.Array:
    """A column of nested lists; `fixed`: of tensors, or ragged lists of lists of one size."""
    if fixed and offsets is None and values.ndim > 1 and len(values):
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
    return nested_column(values, offsets, fixed=fixed)
