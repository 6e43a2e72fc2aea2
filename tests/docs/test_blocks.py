"""Each `bash` and `python` block of the documentation runs, and prints the output block that follows it."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks_of, name_of, text_of
from tests.live.server_process import ServerProcess
from tests.services import Services

DEFAULT_URL = "127.0.0.1:8000"
WITH_BLOCKS = [name_of(page) for page in PAGES if blocks_of(page.read_text())]


def run(block: Block, server: ServerProcess, folder: Path) -> str:
    """Standard output of a block; it runs in `folder`, against `server`, with this interpreter's commands."""
    code = block.code.replace(DEFAULT_URL, server.url.removeprefix("http://"))
    command = ["bash", "-euc", code] if block.language == "bash" else [sys.executable, "-c", code]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
    return done.stdout.replace(server.url.removeprefix("http://"), DEFAULT_URL)


def approximately(value: Any) -> Any:
    """The same JSON value with floats that equal their neighbours."""
    if isinstance(value, dict):
        return {name: approximately(member) for name, member in value.items()}
    if isinstance(value, list):
        return [approximately(member) for member in value]
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


def check_output(block: Block, printed: str) -> None:
    """Compare the output: JSON by value, text word by word, where `...` stands for any text."""
    if block.output is None:
        return
    if block.output_language == "json":
        assert json.loads(printed) == approximately(json.loads(block.output))
        return
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(block.output, printed, flags), f"{block.output}\n---\n{printed}"


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_blocks_run(page: str, server: ServerProcess, services: Services, tmp_path: Path) -> None:
    services.delete_runs()
    for block in blocks_of(text_of(page)):
        check_output(block, run(block, server, tmp_path))


@pytest.mark.parametrize(
    ("output", "language", "printed"),
    [
        ("two rows\n", "text", "three rows\n"),
        ("loss 0.5...\n", "text", "loss 0.41\n"),
        ('{"loss": 0.5, "ids": ["a"]}', "json", '{"loss": 0.51, "ids": ["a"]}'),
        ('{"loss": 0.5, "ids": ["a"]}', "json", '{"loss": 0.5, "ids": ["b"]}'),
    ],
)
def test_another_output_fails(output: str, language: str, printed: str) -> None:
    block = Block("python", "", output, language)
    with pytest.raises(AssertionError):
        check_output(block, printed)


def test_blocks_of_a_page() -> None:
    page = "```bash\na\n```\n\n```json\n{}\n```\n\n```python\nb\n```\n\ntext\n\n```text\nc\n```\n\n```sh\nd\n```\n"
    assert blocks_of(page) == [Block("bash", "a\n", "{}\n", "json"), Block("python", "b\n")]
