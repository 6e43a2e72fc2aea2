"""`focal-loss verify` names every damaged file, and `--repair` makes the rest of the run usable."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import RunDamagedError
from service.mining.queue_file import read_queue
from service.runs.store import RunStore
from service.runs.verify import Finding, verify
from service.storage import compaction
from service.storage.files import open_files
from tests.cli.command import run as run_command
from tests.damage.damaged_runs import HEALTHY, DamagedRuns, damaged_runs
from tests.runs.temp_runs import temp_runs

READERS = {"queues": read_queue}


@pytest.fixture(scope="module")
def runs() -> Iterator[DamagedRuns]:
    with damaged_runs() as service:
        yield service


def findings(folder: Path, run: str | None) -> list[Finding]:
    return list(verify(RunStore(open_files(str(folder)), 1), run, READERS))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_healthy_runs_have_no_findings(runs: DamagedRuns) -> None:
    assert findings(runs.folder, None) == []


def test_data_of_version_0_1_0_has_no_findings() -> None:
    assert findings(Path(__file__).parents[1] / "golden" / "data_dir_0_1_0", None) == []


def test_each_damaged_file_is_found_and_repaired(runs: DamagedRuns) -> None:
    for kind in runs.kinds():
        is_copy = kind.count("/") == 1 and kind.endswith("/run.json")
        with runs.copy() as copy:
            (copy / kind).write_bytes(b"junk")
            found = findings(runs.folder, copy.name)
            if is_copy:
                assert found == []
                continue
            assert kind in [finding.file for finding in found]
            assert [finding for finding in found if finding.file != kind and finding.repair] == []
            assert findings(runs.folder, HEALTHY) == []
            for finding in found:
                if finding.repair is not None:
                    finding.repair()
            assert runs.request("GET", f"/runs/{copy.name}/diagnostics").status_code == 200, kind
            assert (copy / "damaged" / kind).read_bytes() == b"junk"
            assert runs.request("DELETE", f"/runs/{copy.name}").status_code == 204


def test_a_flipped_bit_in_a_data_page_is_found(runs: DamagedRuns) -> None:
    """Each page has a checksum: no flip of a value is unnoticed."""
    kind = next(kind for kind in runs.kinds() if kind.endswith("1/batch-b0.parquet"))
    with runs.copy() as copy:
        for place in (200, 300, 400, 500, 700, 900):
            content = runs.content(kind)
            (copy / kind).write_bytes(content)
            flip(copy / kind, place)
            (finding, *_) = findings(runs.folder, copy.name)
            assert finding.file == kind
            assert "push" in finding.remedy


def test_a_lost_manifest_is_written_again_from_its_copy(runs: DamagedRuns) -> None:
    with runs.copy() as copy:
        before = (copy / "run.json").read_bytes()
        (copy / "run.json").unlink()
        (finding,) = findings(runs.folder, copy.name)
        assert finding.file == "run.json"
        assert finding.repair is not None
        finding.repair()
        assert (copy / "run.json").read_bytes() == before
        assert findings(runs.folder, copy.name) == []


def test_a_manifest_and_its_copy_that_cannot_be_read_are_a_finding(
    runs: DamagedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, mode: str) -> object:
        if path.name == "run.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return os.fdopen(os.open(path, os.O_RDONLY), "rb")

    with runs.copy() as copy:
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", denied)
            (finding,) = findings(runs.folder, copy.name)
        assert finding.file == "run.json"
        assert finding.repair is None
        assert findings(runs.folder, copy.name) == []


def test_a_batch_that_is_gone_is_noticed_by_the_queue_that_names_it(runs: DamagedRuns) -> None:
    with runs.copy() as copy:
        for path in copy.rglob("*.parquet"):
            path.unlink()
        (finding,) = findings(runs.folder, copy.name)
        assert "examples of queues and reviews" in finding.problem
        assert finding.repair is None


def test_files_that_a_damaged_one_has_replaced_count_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 2)
    with temp_runs() as runs:
        root = runs.create().root
        for batch in "ab":
            runs.put([[0.0, 1.0]], [1], [batch], batch=batch)
        with runs.store.reading("r"):
            runs.merge(0)
        (merged,) = runs.store.snapshot("r").data
        Path(runs.store.files.url(merged.path)).write_bytes(b"junk")
        store = RunStore(runs.store.files, 1)
        with pytest.raises(RunDamagedError, match="level1-"):
            store.snapshot("r")
        (finding,) = verify(store, "r", READERS)
        assert finding.repair is not None
        finding.repair()
        assert sorted(name for file in store.snapshot("r").data for name in file.batches) == ["a", "b"]
        assert store.snapshot("r").root == root


def test_the_command_names_and_repairs(runs: DamagedRuns) -> None:
    data_dir = f"--data-dir={runs.folder}"
    assert run_command("verify", "--all", data_dir).returncode == 0
    with runs.copy() as copy:
        kind = next(kind for kind in runs.kinds() if kind.endswith("q.json"))
        (copy / kind).write_bytes(b"{")
        result = run_command("verify", copy.name, data_dir, "--json")
        assert result.returncode == 1
        (found,) = json.loads(result.stdout)["findings"]
        assert (found["run"], found["file"], found["repaired"]) == (copy.name, kind, False)
        assert run_command("verify", "--all", data_dir, "--repair").returncode == 0
        assert run_command("verify", copy.name, data_dir).returncode == 0
        shutil.rmtree(copy)
        assert run_command("verify", copy.name, data_dir).returncode == 2
    assert run_command("verify", data_dir).returncode == 2
