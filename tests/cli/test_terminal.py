"""No text of the data is a command to the terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape

from service.cli import console
from service.cli.console import add_row, table
from service.cli.progress import shown_progress
from service.cli.runs.diagnose import show_findings
from service.cli.terminal import SafeConsole
from service.visible import visible, visible_json
from tests.cli.findings import findings

# The window's title, the clipboard, a CSI of one byte, reordered text, a hidden line.
HOSTILE = "\x1b]0;title\x07 \x1b]52;c;ZXZpbA==\x07 \x9b2J \u202egpj.exe a\rb"
# Sequences with which rich sets and ends a style.
STYLES = re.compile(r"\x1b\[[0-9;]*m")


def shown_by(terminal: SafeConsole) -> str:
    text = terminal.file.getvalue()  # type: ignore[attr-defined]
    return STYLES.sub("", text)


def new_terminal() -> SafeConsole:
    return SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)


def assert_harmless(text: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", text)


@given(st.text() | st.text("\x1b\x9b\x07]0;m[a\u202e"))
def test_no_control_character_is_left(text: str) -> None:
    assert_harmless(visible(text))
    assert visible(visible(text)) == visible(text)
    written = json.dumps({text: text}, ensure_ascii=False)
    assert_harmless(visible_json(written))
    assert json.loads(visible_json(written)) == json.loads(written)


def test_printable_texts_are_unchanged() -> None:
    text = "größe 中 \U0001f408 a\tb\nc \\x1b"
    assert visible(text) == text


def test_a_table_a_message_and_a_title_are_harmless() -> None:
    terminal = new_terminal()
    rows = table("name", title=HOSTILE)
    add_row(rows, HOSTILE)
    terminal.print(rows)
    terminal.print(HOSTILE, style="red", markup=False, highlight=False, soft_wrap=True)
    terminal.print(f"[bold]{escape(HOSTILE)}[/bold]")
    assert_harmless(shown_by(terminal))
    assert r"\x1b]0;title" in shown_by(terminal)
    assert r"\u202egpj.exe" in shown_by(terminal)


def test_diagnose_is_harmless_and_keeps_its_styles() -> None:
    terminal = new_terminal()
    show_findings(findings(HOSTILE), terminal)
    assert_harmless(shown_by(terminal))
    assert terminal.file.getvalue() != shown_by(terminal)  # type: ignore[attr-defined]


def test_a_progress_bar_still_moves_the_cursor() -> None:
    terminal = new_terminal()
    with shown_progress(terminal, 10, "scoring") as report:
        report(10)
    assert "\x1b[2K" in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_json_and_messages_go_through_the_same_functions(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json({"id": HOSTILE})
    assert_harmless(shown := capsys.readouterr().out)
    assert json.loads(shown) == {"id": HOSTILE}


def test_commands_print_by_no_other_way() -> None:
    root = Path(console.__file__).parent
    found = {
        (path.name, line.strip())
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"typer\.(echo|secho)\(|click\.echo\(|\bConsole\(|(?<![.\w])print\(", line)
    }
    assert found == {
        ("main.py", "typer.echo(__version__)"),
        ("console.py", "typer.echo(visible_json(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))"),
    }
