"""Prints the memory of a process that scores a file: `python -m tests.cli.score.memory FILE OUTPUT ROWS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from service.cli.score.columns import ColumnNames
from service.cli.score.options import ScoringOptions
from service.cli.score.run import score_files
from service.cli.score.scorers import LocalScorer
from service.cli.score.sources import find_sources


def resident_bytes() -> int:
    """Memory of this process, mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def main(path: str, output: str, rows_of_a_chunk: str) -> None:
    options = ScoringOptions.parse(
        {},
        outputs=["loss", "contribution", "label_quality"],
        top_k=3,
        on_invalid="error",
        columns=ColumnNames(),
        batch_rows=int(rows_of_a_chunk),
        structure={"layout": "dense"},
    )
    after_chunks: list[int] = []
    score_files(
        find_sources([path], None),
        output,
        options,
        LocalScorer(options, "cpu"),
        progress=lambda rows: after_chunks.append(resident_bytes()),
    )
    print(json.dumps(after_chunks))


if __name__ == "__main__":
    main(*sys.argv[1:])
