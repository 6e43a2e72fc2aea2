"""Packages that a module must not import: each costs time or memory at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The client and the command start without the server's packages.
LIGHT_MODULES = (
    "service",
    "service.cli.main",
    "service.client",
    "service.cli.runs.upload",
    "service.cli.score.run",
    "service.schema.request",
    "service.schema.result",
    "service.errors",
    "service.settings",
)


def loaded_packages(importing: tuple[str, ...], names: set[str]) -> str:
    """Return those of the names that a new process has imported, with the first module that imported one."""
    code = f"""
import importlib, sys
for module in {importing!r}:
    importlib.import_module(module)
    if loaded := sorted({names!r} & set(sys.modules)):
        sys.exit(f"{{module}} imports {{loaded}}")
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


def test_the_client_loads_neither_torch_nor_fastapi() -> None:
    assert loaded_packages(LIGHT_MODULES, {"torch", "fastapi", "uvicorn"}) == ""


@pytest.mark.slow
def test_the_command_starts_without_pyarrow() -> None:
    assert loaded_packages(("service.cli.main",), {"pyarrow"}) == ""


@pytest.mark.slow
def test_the_app_starts_without_the_compiler_of_torch() -> None:
    assert loaded_packages(("service.api.app",), {"torch._dynamo"}) == ""
