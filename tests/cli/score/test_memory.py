"""Memory of `focal-loss score` for a large file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROWS_OF_A_CHUNK = 16


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_a_file_of_masks(tmp_path: Path) -> None:
    logits = np.zeros((400, 8, 128, 128), np.float32)
    path = tmp_path / "masks.safetensors"
    save_file({"logits": logits, "targets": np.zeros((400, 128, 128), np.uint8)}, path)
    chunk_bytes = logits[:ROWS_OF_A_CHUNK].nbytes
    assert path.stat().st_size > 200_000_000
    command = [sys.executable, "-m", "tests.cli.score.memory", path, tmp_path / "out.parquet", str(ROWS_OF_A_CHUNK)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    after_chunks = json.loads(done.stdout)
    assert len(after_chunks) == 25
    # The first chunks also allocate what is used again.
    assert max(after_chunks) - after_chunks[2] < chunk_bytes
