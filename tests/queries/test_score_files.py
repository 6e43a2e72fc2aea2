"""Files of scores: computed once, again if they are gone, and deleted when nothing needs them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.queries import score_files
from service.queries.score_files import ScoreFiles
from service.storage.files import open_files
from service.storage.temporary import TemporaryFolder

SCHEMA = pa.schema([("batch", pa.string()), ("score", pa.float64())])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[TemporaryFolder]:
    temporary = TemporaryFolder(open_files(str(tmp_path)))
    yield temporary
    temporary.close()


class Batches:
    """Two batches; counts how often they are computed."""

    def __init__(self) -> None:
        self.computed = 0

    def __call__(self) -> Iterator[pa.RecordBatch]:
        self.computed += 1
        for name in ("a", "b"):
            yield pa.record_batch([pa.array([name] * 3), pa.array([0.5, 1.5, 2.5])], SCHEMA)


def files(folder: TemporaryFolder) -> list[Path]:
    gc.collect()
    return sorted(folder.path().glob("scores-*"))


def test_a_file_is_written_once_for_a_key(folder: TemporaryFolder) -> None:
    scores, batches = ScoreFiles(folder), Batches()
    first = scores.cached("key", SCHEMA, batches)
    assert scores.cached("key", SCHEMA, batches) is first
    assert batches.computed == 1
    assert pq.read_table(first.path)["batch"].to_pylist() == ["a"] * 3 + ["b"] * 3
    assert scores.cached("other", SCHEMA, batches) is not first
    first.path.unlink()
    again = scores.cached("key", SCHEMA, batches)
    assert batches.computed == 3
    assert again.path.exists()


def test_a_file_that_does_not_fit_into_the_cache_lives_as_long_as_its_query(
    folder: TemporaryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_files, "SCORE_BYTES_CACHED", 1)
    scores, batches = ScoreFiles(folder), Batches()
    file = scores.cached("key", SCHEMA, batches)
    assert files(folder) == [file.path]
    del file
    assert files(folder) == []


def test_a_failed_computation_leaves_no_file(folder: TemporaryFolder) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from Batches()()
        raise ValueError("the rows are damaged")

    scores = ScoreFiles(folder)
    with pytest.raises(ValueError, match="damaged"):
        scores.cached("key", SCHEMA, failing)
    assert files(folder) == []
    assert scores.cached("key", SCHEMA, Batches()).path.exists()
