"""Modules that the client and the command load must not import torch, fastapi or uvicorn, nor the command pyarrow."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "service",
        "service.cli.main",
        "service.client",
        "service.cli.runs.upload",
        "service.cli.score.run",
        "service.schema.request",
        "service.schema.result",
        "service.errors",
        "service.settings",
    ],
)
def test_module_loads_neither_torch_nor_fastapi(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'fastapi', 'uvicorn'}} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_command_starts_without_pyarrow() -> None:
    code = "import sys, service.cli.main; print('pyarrow' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"
