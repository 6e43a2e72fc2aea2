"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
TOP_LEVEL = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [ROOT / name for name in TOP_LEVEL] + sorted((ROOT / "docs").rglob("*.md"))
EXECUTED, OUTPUT = ("bash", "python"), ("json", "text")

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block that the tests execute.

    Args:
        language: `bash` or `python`.
        code: Its text.
        output: The text of the `json` or `text` block that follows it directly, or None.
        output_language: `json` or `text`.
    """

    language: str
    code: str
    output: str | None = None
    output_language: str = "text"


def name_of(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text()


def blocks_of(text: str) -> list[Block]:
    """All blocks of a page that the tests execute."""
    fences = list(FENCE.finditer(text))
    blocks = []
    for number, fence in enumerate(fences):
        if fence[2] not in EXECUTED:
            continue
        following = fences[number + 1] if number + 1 < len(fences) else None
        output, language = None, "text"
        if following and following[2] in OUTPUT and not text[fence.end() : following.start()].strip():
            output, language = dedent(following[3]), following[2]
        blocks.append(Block(fence[2], dedent(fence[3]), output, language))
    return blocks


def section(text: str, title: str) -> str:
    """The text below a heading, up to the next heading."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def first_cells(text: str) -> list[str]:
    """The first code span of each table row."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)
