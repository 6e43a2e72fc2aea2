"""Texts that a spreadsheet would evaluate are guarded, and every text can be restored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.formats.spreadsheets import NUMBER, guard, unguard

TRIGGERS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


@given(st.text(max_size=8) | st.text("'=+-@\t\r\n\uff1d1.eE", max_size=6))
def test_every_text_is_restored_and_none_is_a_formula(text: str) -> None:
    guarded = guard(text)
    assert unguard(guarded) == text
    assert not guarded.startswith(tuple(TRIGGERS)) or NUMBER.fullmatch(guarded)


def test_a_text_without_a_quote_is_restored_as_it_is() -> None:
    assert [unguard(text) for text in ("=1", "-5", "'tis", "", "'", "''=1")] == ["=1", "-5", "'tis", "", "'", "'=1"]
