"""The command `focal-loss`: options, settings, exit statuses."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from service import __version__
from service.settings import ENV_PREFIX, Settings
from tests.cli.command import run
from tests.live.server_process import service_environment


def focal_loss(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        capture_output=True,
        text=True,
        env=service_environment(**settings) | {"COLUMNS": "200"},
        timeout=60,
        check=False,
    )


def test_version() -> None:
    assert focal_loss("version").stdout.strip() == __version__


HEAPS = """
import ctypes, sys, threading
from service.cli import serve as cli

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
if sys.argv[1] == "shared":
    cli._share_one_heap()
met = threading.Barrier(4)


def work():
    libc.malloc(1000)
    met.wait()


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc has a heap for each thread")
@pytest.mark.parametrize(("how", "heaps"), [("shared", 1), ("as it is", 4)])
def test_threads_share_one_heap(how: str, heaps: int) -> None:
    ended = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, timeout=60, check=True)
    count = ended.stdout.count("<heap nr=")
    assert count == 1 if heaps == 1 else count >= heaps


def test_help_names_every_setting_with_its_default_and_the_environment_variables() -> None:
    words = " ".join(run("serve", "--help").stdout.split())
    assert f"The environment variable of --max-body-bytes is {ENV_PREFIX}MAX_BODY_BYTES, and so on." in words
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in words
        assert field.description is not None
        assert f"{field.description} (default: {field.default})" in words


@pytest.mark.parametrize("word", ["--prot", "--max-body", "extra"])
def test_an_unknown_option_of_serve_is_a_usage_error(word: str) -> None:
    ended = run("serve", word, "1")
    assert ended.returncode == 2
    assert f"unrecognized arguments: {word}" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (["--port", "http"], {}, "port"),
        (["--queue-size", "0"], {}, "queue_size"),
        ([], {"workers": "many"}, "workers"),
        ([], {"api_keys": "short"}, "fewer than 16 characters"),
        (["--max-body-bytes", "10", "--max-queued-bytes", "5"], {}, "max_queued_bytes"),
        (["--device", "tpu"], {}, "device"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_status_2(arguments: list[str], settings: dict[str, str], says: str) -> None:
    ended = run("serve", *arguments, **settings)
    assert ended.returncode == 2
    assert says in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [(["--device", "cuda:99"], {}, "cuda:99"), ([], {"api_keys": "short"}, "fewer than 16 characters")],
)
def test_a_process_ends_with_status_2_at_a_bad_setting(
    arguments: list[str], settings: dict[str, str], says: str
) -> None:
    ended = focal_loss("serve", *arguments, **settings)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_invalid_key_is_not_printed() -> None:
    ended = run("serve", api_keys="secret-key")
    assert ended.returncode == 2
    assert "secret-key" not in ended.stderr


def test_options_override_the_environment() -> None:
    ended = run("serve", "--queue-size", "0", queue_size="5")
    assert "queue_size" in ended.stderr


def test_ctrl_c_is_exit_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "in.csv").write_text("logit_0,logit_1,label\n1,2,0\n")
    monkeypatch.setattr("service.cli.score.run.score_files", interrupt)
    ended = run("score", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--local", "--device", "cpu")
    assert ended.returncode == 130
    assert "Run the same command again to continue." in ended.stderr


@pytest.mark.parametrize("config", ["[1]", "{", "absent.json"])
def test_a_bad_configuration_is_a_usage_error(config: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("logit_0,logit_1,label\n1,2,0\n")
    ended = run("score", tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--local", "--config", config)
    assert ended.returncode == 2
    assert "--config" in ended.stderr
