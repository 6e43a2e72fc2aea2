"""The synchronous client is generated from the asynchronous one; `make check` compares them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/generate_sync_client.py"
pytest.importorskip("unasync", reason="unasync is not installed")


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync_client", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_files_are_those_that_the_source_generates(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0


@pytest.mark.slow
def test_check_reports_changed_missing_and_extra_files(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "TARGET", tmp_path)
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    (tmp_path / "client.py").write_text("changed by hand")
    (tmp_path / "runs.py").unlink()
    (tmp_path / "extra.py").write_text("")
    assert script.main(["--check"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [
        str(tmp_path / name) for name in ("client.py", "runs.py", "extra.py")
    ]
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0


def test_a_replacement_that_matches_nothing_is_an_error(script: ModuleType) -> None:
    script.TEXTS.append(("no such text in the source", ""))
    with pytest.raises(SystemExit, match="no such text"):
        script.generate()
