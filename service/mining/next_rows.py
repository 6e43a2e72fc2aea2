"""Prediction of what the next rows of a queue will find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.diagnostics.chunks import Floats
from service.diagnostics.expected_errors import WrongLabelModel
from service.mining.progress import MIN_VERDICTS
from service.mining.queue_table import GOLD, QueueTable
from service.mining.row_states import WORDS, RowStates
from service.schema.replies.remaining import NextRows, NextStatus, PredictedErrors

SIZES = (10, 100, 1000)
MAX_NEXT_ROWS = 10_000
OPEN, WRONG = WORDS.index(None), WORDS.index("wrong")
JUDGED = (WORDS.index("ok"), WRONG)


def next_rows(queue: QueueTable, states: RowStates, rows: int | None = None) -> NextRows:
    """Predict the wrong labels among the next rows of a queue: its first rows by rank without a verdict.

    Args:
        queue: The queue, with all columns.
        states: The verdicts on its rows.
        rows: Number of next rows; default: `SIZES`, and all open rows up to `MAX_NEXT_ROWS`.
    """
    is_open, wrong, judged = (np.isin(states.codes, codes) for codes in (OPEN, WRONG, JUDGED))
    gold = queue.marks(GOLD)
    if gold is not None:
        # The right verdict of a gold row is known.
        is_open, wrong, judged = is_open & ~gold, wrong & ~gold, judged & ~gold
    num_open, num_judged = int(is_open.sum()), int(judged.sum())
    predictions: list[PredictedErrors] = []
    status: NextStatus = "no_open_rows" if not num_open else "too_few_verdicts"
    if num_open and num_judged >= MIN_VERDICTS:
        status, features = "estimated", _features(queue)
        sizes = _sizes(num_open, rows)
        model = WrongLabelModel(features[judged], wrong[judged])
        predictions = [
            {"rows": size, "expected": expected, "low": low, "high": high}
            for size, (expected, low, high) in zip(sizes, model.predict(features[is_open], sizes), strict=True)
        ]
    return {
        "queue": str(queue.head["name"]),
        "status": status,
        "num_open": num_open,
        "num_judged": num_judged,
        "num_wrong": int(wrong.sum()),
        "predictions": predictions,
    }


def _sizes(num_open: int, rows: int | None) -> Sequence[int]:
    if rows is not None:
        return [min(rows, num_open)]
    return [*(size for size in SIZES if size < num_open), min(num_open, MAX_NEXT_ROWS)]


def _features(queue: QueueTable) -> Floats:
    """(rows, 2 + strategies) features of the rows, each 0 in the mean of a strategy: the logarithm of the rank within
    the strategy, the score, and the strategy itself.

    Random rows have no trend, so their first two features are 0.
    """
    columns: list[Floats] = []
    strategies = queue.rows["strategy"].to_numpy(zero_copy_only=False)
    scores = queue.rows["score"].to_numpy(zero_copy_only=False).astype(np.float64)
    rank, score = np.zeros(len(queue)), np.zeros(len(queue))
    for strategy in np.unique(strategies):
        of_strategy = np.flatnonzero(strategies == strategy)
        columns.append(np.asarray(strategies == strategy, dtype=np.float64))
        if strategy != "random":
            rank[of_strategy] = _standardised(np.log(np.arange(1.0, len(of_strategy) + 1)))
            score[of_strategy] = _standardised(_filled(scores[of_strategy]))
    return np.stack([rank, score, *columns], axis=1)


def _filled(scores: Floats) -> Floats:
    """The scores with the nearest finite score in the place of null, which is an infinite score."""
    known = np.flatnonzero(np.isfinite(scores))
    return np.interp(np.arange(len(scores)), known, scores[known]) if len(known) else np.zeros(len(scores))


def _standardised(values: Floats) -> Floats:
    spread = values.std()
    return np.asarray((values - values.mean()) / spread if spread else np.zeros(len(values)))
