"""Generate `service/client/_sync` from `service/client/_async`, or compare the two with `--check`.

    python scripts/generate_sync_client.py [--check]

`unasync` removes `async` and `await` and renames the identifiers in NAMES. It does not change docstrings and generic
types: TEXTS lists their replacements. Ruff then formats the result.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "service/client/_async", ROOT / "service/client/_sync"
HEADER = "# Generated from service/client/_async by scripts/generate_sync_client.py: do not edit.\n"
NAMES = {
    "_async": "_sync",
    "AsyncBackground": "Background",
    "AsyncBatches": "Batches",
    "AsyncConnection": "Connection",
    "AsyncLossClient": "LossClient",
    "AsyncLossStream": "LossStream",
    "AsyncRunBatches": "RunBatches",
    "AsyncRunClient": "RunClient",
    "AsyncRunQuality": "RunQuality",
    "AsyncRunQueues": "RunQueues",
    "async_enumerate": "sync_enumerate",
    # asyncio.sleep is time.sleep.
    "asyncio": "time",
    "aclosing": "closing",
    "anext": "next",
    # httpx
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
}
# For the order of imports, which must not depend on the files that exist before the first run.
FIRST_PARTY = 'lint.isort.known-first-party=["service"]'
# Pattern and replacement. Each pattern must occur in the source.
TEXTS = [
    (r"The asynchronous client, the source of the synchronous one", "The synchronous client"),
    (r"Awaitable\[(\w+)\]", r"\1"),
    (r"`Async(\w+)`", r"`\1`"),
    (r"async with AsyncLossClient", "with LossClient"),
    (r"reply = await client", "reply = client"),
    (r"The tasks of an event loop can share it", "Threads can share it"),
    (r"; it may be asynchronous", ""),
]


def main(arguments: list[str]) -> int:
    """Write the generated files. With `--check` report those that differ; the exit status is 1 if any does."""
    files = generate()
    extra = sorted(set(TARGET.glob("*.py")) - files.keys())
    if arguments == ["--check"]:
        stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
        for path in stale + extra:
            print(f"{path} differs from what its source generates: run make format", file=sys.stderr)
        return 1 if stale or extra else 0
    for path, text in files.items():
        path.write_text(text)
    for path in extra:
        path.unlink()
    return 0


def generate() -> dict[Path, str]:
    """Return the path and the text of each generated file.

    Raises:
        SystemExit: A pattern of TEXTS does not occur in the source.
    """
    sources = sorted(SOURCE.glob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(f"{SOURCE}/", f"{folder}/", additional_replacements=NAMES)
        unasync.unasync_files(map(str, sources), [rule])
        texts = {TARGET / source.name: (Path(folder) / source.name).read_text() for source in sources}
    unused = [pattern for pattern, _ in TEXTS if not any(re.search(pattern, text) for text in texts.values())]
    if unused:
        raise SystemExit(f"these patterns do not occur in {SOURCE}: {unused}")
    return {path: _format(path, HEADER + _replace_texts(text)) for path, text in texts.items()}


def _replace_texts(text: str) -> str:
    for pattern, replacement in TEXTS:
        text = re.sub(pattern, replacement, text)
    return text


def _format(path: Path, text: str) -> str:
    """Remove unused imports, sort the others, use `yield from`, and format."""
    fix = ["check", "--fix", "--unsafe-fixes", "--quiet", "--select=F401,I,UP028", "--config", FIRST_PARTY]
    for command in (fix, ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={path}", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
