"""Batches of runs that were sent as statistics: merged, checked and told apart from those with logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.errors import RunDamagedError
from service.runs.check_data import check_data
from service.runs.ingest import check_batches
from service.runs.rows import content_digest
from service.schema.config import LossConfig
from service.schema.request import Batch
from service.storage import compaction
from tests.runs.temp_runs import temp_runs

LOGITS, TARGETS = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32), [0, 1, 2, 2, 1, 0]


def test_merged_files_know_which_batches_have_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 2)
    with temp_runs() as runs:
        runs.create()
        runs.put(LOGITS, TARGETS, batch="a")
        runs.put(LOGITS, TARGETS, [f"x{row}" for row in range(6)], batch="b", reduce=True)
        runs.put(LOGITS, TARGETS, epoch=1)
        assert runs.merge(0) == 2
        snapshot = runs.store.snapshot("r")
        (data,) = snapshot.data_of(0)
        assert data.footer.without_logits == ("b",)
        assert (snapshot.has_logits(0), snapshot.has_logits(1)) == (False, True)
        assert [row["logits"] is None for row in runs.raw(epoch=0)] == [False] * 6 + [True] * 6
        scores = [{name: row[name] for name in ("log_odds", "entropy", "prediction")} for row in runs.raw(epoch=0)]
        assert scores[:6] == scores[6:]
        check_data(runs.store.files, data)
        wrong = replace(data.footer, batches=data.footer.batches | {"b": data.footer.batches["a"]})
        with pytest.raises(RunDamagedError, match="other rows of batch b"):
            check_data(runs.store.files, replace(data, footer=wrong))


def test_the_digest_does_not_depend_on_the_split_or_the_dtype() -> None:
    rng = np.random.default_rng(0)
    statistics = {
        name: rng.normal(size=4).astype(np.float32) for name in ("log_odds", "entropy", "logit_margin", "el2n")
    }
    statistics["prediction"] = np.array([0, 2, 1, 255], np.uint8)

    def digest(*batches: Batch) -> str:
        return content_digest(check_batches(LossConfig(), batches))

    def rows(part: slice, dtype: type = np.float32) -> Batch:
        columns = {name: values[part].astype(dtype) for name, values in statistics.items()}
        return Batch(np.empty(0), np.arange(4)[part], [f"e{row}" for row in range(4)][part], statistics=columns)

    whole = digest(rows(slice(4)))
    assert whole == "d54ffba38dfa29849304a5870f20f742b249f7b84c443652206b10a2326830a0"
    assert digest(rows(slice(2)), rows(slice(2, 4))) == whole
    assert digest(rows(slice(4), np.float64)) == whole
    statistics["entropy"][3] += 1
    assert digest(rows(slice(4))) != whole
