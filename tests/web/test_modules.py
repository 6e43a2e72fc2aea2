"""The JavaScript modules of the page: their unit tests, and constants that they share with the service and Plotly."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import get_args

import pytest

from service.diagnostics import dynamics
from service.schema.replies.fields import Strategy

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "service/web"


@pytest.fixture(scope="module")
def deno() -> str:
    module = pytest.importorskip("deno", reason="deno is not installed")
    return str(module.find_deno_bin())


def test_the_unit_tests_pass(deno: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DENO_DIR": str(tmp_path), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    command = [deno, "test", "--no-remote", "--no-check", "tests/web"]
    result = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    files = list(Path(__file__).parent.glob("*.test.js"))
    tests = sum(path.read_text().count("\nDeno.test(") for path in files)
    assert re.search(rf"^ok \| {tests} passed \| 0 failed", result.stdout, re.MULTILINE), result.stdout


def test_the_page_describes_every_strategy() -> None:
    source = (WEB / "components/queue/strategies.js").read_text()
    names = re.findall(r"^  (\w+): \[", source, re.MULTILINE)
    assert sorted(names) == sorted([*get_args(Strategy), "mix", "recommended"])


def test_the_page_has_the_regions_of_the_service() -> None:
    source = (WEB / "lib/data_map.js").read_text()
    bounds = dict(re.findall(r"([A-Z_]+) = ([0-9.]+)", source))
    assert len(bounds) == 3
    for name, value in bounds.items():
        assert getattr(dynamics, name) == float(value)


def test_the_page_leaves_out_the_styles_of_the_installed_plotly() -> None:
    library = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js"))).read_text()
    inserted = set(re.findall(r'getElementById\("([^"]+)"\)', library))
    assert inserted
    source = (WEB / "lib/charts.js").read_text()
    assert inserted <= set(re.findall(r'"([^"]+)"', source))
    # The second style has an id of two parts.
    assert '"plotly.js-style-"' in library
    assert "no-inline-styles" in library
