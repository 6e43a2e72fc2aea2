"""Options that do not make sense end each command with status 2, and what nobody expects with status 70."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from service.cli import main
from service.cli.console import last_errors
from tests.cli.command import run
from tests.lanes import mostly_slow

BAD_ADDRESSES = [
    "",
    "foo",
    "http://",
    "http://[::1",
    "http://x:99999",
    "http://x:y",
    "ftp://x",
    "http://\0",
    "http://x y",
]


@pytest.mark.parametrize("url", mostly_slow(BAD_ADDRESSES, quick=2))
def test_an_address_that_is_none_is_a_usage_error(url: str, tmp_path: Path) -> None:
    for words in (
        ["info"],
        ["runs"],
        ["runs", "show", "x"],
        ["review", "x", "--ok", "a"],
        ["push", "x", "y", "--epoch", 0],
    ):
        ended = run(*words, "--url", url)
        assert (ended.returncode, "is not an address" in ended.stderr) == (2, True), words


@pytest.mark.parametrize("option", ["--config", "--class-names-file"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None, b"[" * 100_000])
def test_a_file_of_options_that_cannot_be_read(option: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    if content is not None:
        path.write_bytes(content)
    ended = run("runs", "create", "x", option, path)
    assert (ended.returncode, option in ended.stderr) == (2, True)


def test_a_glob_finds_no_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.csv").write_text("logit_0,logit_1,y\n1,2,0\n")
    ended = run("score", tmp_path / "*", "-o", tmp_path / "out.csv", "--local", "--device", "cpu")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (TypeError("a\x1b[31mb"), 70, "focal-loss failed: TypeError: a\\x1b[31mb (test_usage.py, line"),
        (MemoryError(), 70, "focal-loss failed: MemoryError"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_an_unexpected_error_is_one_sentence(
    error: Exception, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, last_errors():
        raise error
    shown = capsys.readouterr().err
    assert ended.value.code == status
    assert says in shown
    assert "Traceback" not in shown


def test_ctrl_c_during_a_request_is_exit_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.client.LossClient.runs", interrupt)
    assert run("runs").returncode == 130


def test_the_process_uses_the_last_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise TypeError("no")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 70
