"""The limits in the documentation are those of the code, and the tests of each promise exist."""

from __future__ import annotations

import re

import pytest

from service import errors
from service.settings import Settings
from tests.docs.pages import ROOT, text_of

LIMITS = text_of("docs/limits.md")
TABLES = LIMITS.partition("## Proof")[0]
ROWS = [line for line in TABLES.splitlines() if line.startswith("|") and not line.startswith(("|---", "| input"))]
# Settings of which each bounds an input.
BOUNDS = [
    name
    for name in Settings.model_fields
    if name.startswith(("max_", "min_")) or name.endswith(("_timeout_s", "_bytes")) or name == "queue_size"
]


@pytest.mark.parametrize("name", BOUNDS)
def test_each_setting_that_bounds_an_input_is_listed(name: str) -> None:
    assert f"`{name}`" in LIMITS


def test_each_row_names_known_settings_and_codes() -> None:
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    for row in ROWS:
        _, _, _, setting, answer, _ = row.split("|")
        assert set(re.findall(r"`(\w+)`", setting)) <= set(Settings.model_fields), row
        assert set(re.findall(r"\b\d{3} `(\w+)`", answer)) <= codes, row


def test_the_tests_of_each_promise_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", text_of("SECURITY.md"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
