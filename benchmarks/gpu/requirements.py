"""The packages that `make gpu-check` needs beside torch and Triton: `python -m benchmarks.gpu.requirements`.

They are those of the service and its tests, less what comes with torch or is not needed on a GPU machine. Needs
nothing but Python 3.11.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
FROM_THE_MACHINE = ("torch", "triton")
OF_THE_TESTS = ("hypothesis", "pytest", "pytest-xdist")


def requirements() -> list[str]:
    """Requirements as pip reads them."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    service = [each for each in [*project["dependencies"], *extras["server"]] if _name(each) not in FROM_THE_MACHINE]
    tests = [each for each in extras["dev"] if _name(each) in OF_THE_TESTS]
    # The tests have mpmath from sympy, which comes with torch; a torch of the machine may have none.
    return [*service, *tests, "mpmath>=1.3"]


def _name(requirement: str) -> str:
    return re.split(r"[<>=~!;\[ ]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    print("\n".join(requirements()))
