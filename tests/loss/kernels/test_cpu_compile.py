"""The machine code that is cached on disk belongs to the source that it was compiled from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {
    "helper.py": "from numba import njit\n\n@njit\ndef addend():\n    return {}\n",
    "main.py": (
        "import helper\n"
        "from service.loss.kernels.cpu_compile import compiled\n\n"
        "@compiled(helper)\n"
        "def result():\n"
        "    return 40 + helper.addend()\n"
        "print(result(), sum(result.stats.cache_hits.values()))\n"
    ),
}


def printed(folder: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment["NUMBA_CACHE_DIR"] = str(folder / "cache")
    command = [sys.executable, "-c", "import main"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.mark.slow
def test_a_changed_helper_module_is_compiled_again(tmp_path: Path) -> None:
    for name, source in MODULES.items():
        (tmp_path / name).write_text(source.replace("{}", "2"))
    assert [printed(tmp_path), printed(tmp_path)] == ["42 0", "42 1"]
    (tmp_path / "helper.py").write_text(MODULES["helper.py"].replace("{}", "3"))
    assert [printed(tmp_path), printed(tmp_path)] == ["43 0", "43 1"]
