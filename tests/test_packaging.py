"""The files of a wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_data_file_of_the_package_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["service"]
    packaged = {path for pattern in patterns for path in (ROOT / "service").glob(pattern)}
    files = {
        path
        for path in (ROOT / "service").rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert ROOT / "service" / "cli" / "report" / "report.html.j2" in files
    assert files - packaged == set()
