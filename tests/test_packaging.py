"""The files of a wheel, and what the image installs and may use."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_the_image_installs_the_tested_versions_by_their_hashes(kind: str) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    text = (ROOT / "requirements" / f"{kind}.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE))
    assert set(pinned) == set(re.findall(r"^([a-z][\w.-]*)", text, re.MULTILINE))
    differing = {name: version for name, version in pinned.items() if tested.get(_normal(name, tested)) != version}
    # Only torch's CUDA wheel needs further packages, and its CPU wheel has a local version.
    assert all(name.startswith(("nvidia-", "cuda-", "torch")) for name in differing), differing
    assert pinned["torch"].split("+")[0] == tested["torch"]


def _normal(name: str, known: dict[str, str]) -> str:
    return next((other for other in known if other.replace("_", "-") == name), name)


def test_containers_have_limits() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        assert service["mem_limit"] == service["memswap_limit"]
        assert service["pids_limit"] > 0
        assert all("size=" in mount for mount in service["tmpfs"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert services["cpu"]["build"]["args"]["REQUIREMENTS"] == "requirements/cpu.txt"
