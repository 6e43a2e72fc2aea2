"""The packages that `make gpu-check` needs in addition to torch and Triton: `python -m benchmarks.gpu.requirements`.

They are the packages of the service and of its tests on a GPU, without those that come with torch. This script needs
only Python 3.11.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
MACHINE_PACKAGES = ("torch", "triton")
TEST_PACKAGES = ("hypothesis", "pytest", "pytest-xdist")


def requirements() -> list[str]:
    """Return the requirements in the syntax of pip."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    packages = [*project["dependencies"], *extras["server"]]
    service = [package for package in packages if _name(package) not in MACHINE_PACKAGES]
    tests = [package for package in extras["dev"] if _name(package) in TEST_PACKAGES]
    # The tests use mpmath of sympy, which torch requires; the machine's torch may come without it.
    return [*service, *tests, "mpmath>=1.3"]


def _name(requirement: str) -> str:
    return re.split(r"[<>=~!;\[ ]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    print("\n".join(requirements()))
