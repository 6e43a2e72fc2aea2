"""SQL of the queries: literals, and the columns of rows.

All losses are computed from the stored z = log(p_t / (1 - p_t)): with e = exp(-|z|) and
log(1 + e) = 2 atanh(e / (2 + e)), which loses no digits for small e, cross-entropy is max(-z, 0) + log(1 + e),
log(1 - p_t) = -(max(z, 0) + log(1 + e)), and FL = alpha_t exp(-gamma softplus(z)) softplus(-z).
"""

from __future__ import annotations

import math

STORED = "epoch, batch, row, id, target, prediction, log_odds, logit_margin, normalized_margin, entropy, el2n"

# Columns from which `Weighting.sql` computes the losses.
ROWS = f"""
    {STORED}, attributes,
    greatest(least(log_odds::DOUBLE, 1e30), -1e30) AS z,
    exp(-abs(z)) AS e,
    2 * atanh(e / (2 + e)) AS log1p_e,
    greatest(-z, 0) + log1p_e AS cross_entropy,
    greatest(z, 0) + log1p_e AS softplus_z,
    CASE WHEN z >= 0 THEN 1 / (1 + e) ELSE e / (1 + e) END AS p_t"""

EMPTY = """SELECT NULL::INTEGER AS epoch, NULL::VARCHAR AS batch, NULL::INTEGER AS row, NULL::VARCHAR AS id,
    NULL::INTEGER AS target, NULL::INTEGER AS prediction, NULL::FLOAT AS log_odds, NULL::FLOAT AS logit_margin,
    NULL::FLOAT AS normalized_margin, NULL::FLOAT AS entropy, NULL::FLOAT AS el2n, NULL::FLOAT[] AS logits,
    NULL::VARCHAR AS attributes LIMIT 0"""


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
