"""SQL of the queries: literals, and the columns of rows.

All losses are computed from the stored z = log(p_t / (1 - p_t)): with e = exp(-|z|) and
log(1 + e) = 2 atanh(e / (2 + e)), which loses no digits for small e, cross-entropy is max(-z, 0) + log(1 + e),
log(1 - p_t) = -(max(z, 0) + log(1 + e)), and FL = alpha_t exp(-gamma softplus(z)) softplus(-z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from service.runs.schema import SCHEMA, schema_of
from service.schema.structure import Task

# A condition and its parameters.
Condition = tuple[str, list[object]]

# Sort key of the rows of an example: the row with the largest value was sent last.
LATEST = "(epoch, batch, row)"

# Types in SQL of the columns of a stored row.
SQL_TYPES = {
    pa.int32(): "INTEGER",
    pa.string(): "VARCHAR",
    pa.float32(): "FLOAT",
    pa.list_(pa.float32()): "FLOAT[]",
    pa.list_(pa.int32()): "INTEGER[]",
}
STORED = ", ".join(name for name in SCHEMA.names if name != "logits")

# Columns from which `Weighting.sql` computes the losses.
ROWS = f"""
    {STORED},
    greatest(least(log_odds::DOUBLE, 1e30), -1e30) AS z,
    exp(-abs(z)) AS e,
    2 * atanh(e / (2 + e)) AS log1p_e,
    greatest(-z, 0) + log1p_e AS cross_entropy,
    greatest(z, 0) + log1p_e AS softplus_z,
    CASE WHEN z >= 0 THEN 1 / (1 + e) ELSE e / (1 + e) END AS p_t"""


def no_rows(task: Task) -> str:
    """A query with all columns of the stored rows of a run with this task, and no row."""
    columns = (f"NULL::{SQL_TYPES[field.type]} AS {field.name}" for field in schema_of(task))
    return f"SELECT {', '.join(columns)} LIMIT 0"


def literal(number: float) -> str:
    """The SQL literal of a finite number, in brackets: a second minus before a number would begin a comment."""
    if isinstance(number, int):
        return f"({number})"
    if not math.isfinite(number):
        raise ValueError(f"{number} has no literal")
    return f"({number!r}::DOUBLE)"


def quoted(text: str) -> str:
    """The SQL literal of a text."""
    return "'" + text.replace("'", "''") + "'"


def numbered(expressions: Sequence[str]) -> str:
    """Expressions named `c0`, `c1`, ...: SQL does not tell a name `A` from `a`."""
    return ", ".join(f"{expression} AS c{place}" for place, expression in enumerate(expressions))
