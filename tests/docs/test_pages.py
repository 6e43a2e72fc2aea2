"""The documentation agrees with the code: generated parts, outputs, strategies, dependencies, layers, links."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from functools import cache
from types import ModuleType
from typing import get_args

import pytest

from service import __version__
from service.mining.requests import Strategy
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS, REGIONS
from tests.docs.pages import PAGES, ROOT, TOP_LEVEL, first_cells, name_of, section, text_of

README_LINES = 150
WITH_GENERATED_PARTS = [
    name_of(page) for page in PAGES if page.parent != ROOT and "<!-- generated: " in page.read_text()
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def generator() -> ModuleType:
    """The module `scripts/generate_docs.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", WITH_GENERATED_PARTS)
def test_generated_parts_are_up_to_date(page: str) -> None:
    assert generator().rendered(text_of(page)) == text_of(page), "run `make docs` and commit the result"


def test_each_generated_part_is_in_a_page() -> None:
    docs = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    used = [name for text in docs for name in re.findall(r"<!-- generated: (\w+) -->", text)]
    assert sorted(used) == sorted(generator().PARTS)


def test_an_outdated_part_is_replaced() -> None:
    page = "before\n<!-- generated: settings -->\noutdated\n<!-- end of generated -->\nafter\n"
    new = generator().rendered(page)
    assert "outdated" not in new
    assert "| `--port` | `FOCAL_LOSS_PORT` | 8000 |" in new
    assert new.startswith("before\n<!-- generated: settings -->\n\n| option")
    assert new.endswith("|\n\n<!-- end of generated -->\nafter\n")


def test_all_outputs_and_configuration_fields_are_described() -> None:
    page = text_of("docs/http-api.md")
    assert first_cells(section(page, "Outputs")) == [*OUTPUTS, REGIONS]
    assert first_cells(section(page, "Configuration")) == list(LossConfig.model_fields)


def test_all_strategies_are_described() -> None:
    rows = re.findall(r"^\| (`.+?) \|", section(text_of("docs/queues.md"), "Strategies"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(get_args(Strategy))


def test_all_dependencies_have_their_reason() -> None:
    page = text_of("docs/explanation/dependencies.md")
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in [
        *PROJECT["project"]["dependencies"],
        *extras["server"],
        *extras["label-studio"],
        *extras["demo"],
    ]:
        name = re.split(r"[<>=;\[]", requirement)[0]
        if name != PROJECT["project"]["name"]:
            assert re.search(rf"^\| .*\b{re.escape(name)}\b.* \| .+ \|$", page, re.MULTILINE), name


def test_the_drawn_layers_are_the_checked_ones() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    drawing, lowest = section(text_of("docs/explanation/architecture.md"), "Layers"), 0
    for layer in contracts[0]["layers"][1:]:
        names = [name.strip() for name in layer.split("|")]
        places = [max(drawing.find(f"service/{name}/"), drawing.find(f"service/{name}.py")) for name in names]
        assert min(places) > lowest, layer
        lowest = max(places)


def test_the_changelog_has_the_version() -> None:
    assert f"## {__version__}" in text_of("CHANGELOG.md")


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES


# mkdocs checks the links of docs/, the README is outside of it.
@pytest.mark.parametrize("page", TOP_LEVEL)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    missing = [link for link in links if "://" not in link and not (ROOT / link.partition("#")[0]).exists()]
    assert missing == []
