"""Changes of the elements of examples between two structured runs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.queries.element_losses import flat, lengths
from service.queries.view import View

_LISTS = ("targets", "predictions")


def num_changed(views: tuple[View, View], epochs: tuple[int, int]) -> dict[str, int]:
    """Count the examples with other targets, and those with other predictions, as members of a comparison.

    Examples that were sent as histograms have neither in an order that can be compared, and do not count.

    Args:
        views: Both runs.
        epochs: An epoch of each.
    """
    before, after = (_digests(view, epoch) for view, epoch in zip(views, epochs, strict=True))
    common = before.join(after, "id", join_type="inner", right_suffix="_after")
    targets, predictions = (pc.sum(pc.not_equal(common[name], common[f"{name}_after"])).as_py() or 0 for name in _LISTS)
    return {"num_relabelled": targets, "num_predicted_otherwise": predictions}


def _digests(view: View, epoch: int) -> pa.Table:
    """The ids of an epoch with digests of their targets and predictions, which only this process can compare.

    A join of the lists themselves would keep those of all examples in memory, and with DuckDB's hash of a list the
    comparison takes five times as long.
    """
    schema = pa.schema([("id", pa.string()), *((name, pa.int64()) for name in _LISTS)])
    parts = []
    for rows in view.stored_batches(epoch, ["batch", "row", "id", "element_counts", *_LISTS]):
        is_histogram = rows["element_counts"].is_valid().to_numpy(zero_copy_only=False)
        bounds = np.append(0, np.cumsum(lengths(rows, "targets"))).tolist()
        digests = []
        for name in _LISTS:
            values = flat(rows, name)
            of_rows = [hash(values[start:stop].tobytes()) for start, stop in pairwise(bounds)]
            digests.append(pa.array(of_rows, pa.int64(), mask=is_histogram))
        parts.append(pa.record_batch([rows["id"], *digests], schema=schema))
    return pa.Table.from_batches(parts, schema)
