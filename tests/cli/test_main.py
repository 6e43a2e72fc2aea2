"""The command: its options, its settings, and how it ends."""

from __future__ import annotations

import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc has a heap for each thread")
@pytest.mark.parametrize(("how", "heaps"), [("shared", 1), ("as it is", 4)])
def test_threads_share_one_heap(how: str, heaps: int) -> None:
    ended = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, timeout=60, check=True)
    found = ended.stdout.count("<heap nr=")
    assert found == 1 if heaps == 1 else found >= heaps


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
def test_a_process_with_a_bad_setting_ends_the_same_way(
    arguments: list[str], settings: dict[str, str], says: str
) -> None:
    ended = focal_loss("serve", *arguments, **settings)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_that_is_refused_is_not_shown() -> None:
    ended = run("serve", api_keys="secret-key")
    assert ended.returncode == 2
    assert "secret-key" not in ended.stderr


def test_the_command_line_wins_over_the_environment() -> None:
    ended = run("serve", "--queue-size", "0", queue_size="5")
    assert "queue_size" in ended.stderr
