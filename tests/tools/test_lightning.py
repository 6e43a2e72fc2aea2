"""Lightning records the rows of every epoch once, with a recorder that is made before `fit`, in every strategy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.live.server_process import ServerProcess

pytest.importorskip("lightning", reason="lightning is not installed")


@pytest.mark.parametrize(("strategy", "devices"), [("auto", 1), ("ddp_fork", 2), ("ddp_spawn", 2)])
def test_each_epoch_has_every_row_once(server: ServerProcess, strategy: str, devices: int) -> None:
    command = [sys.executable, "-m", "tests.tools.lightning_fit", strategy, str(devices), server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    ranks = [f"rank-{rank}" for rank in range(devices)]
    assert done.stdout.splitlines()[-1:] == [f"[(0, 48), (1, 48)] {ranks}"], done.stdout + done.stderr
