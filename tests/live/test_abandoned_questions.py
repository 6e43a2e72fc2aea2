"""Questions whose client leaves: their queries end, and the next question is answered at once."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.contract.test_errors import SAFETENSORS
from tests.live.connection import Connection
from tests.live.server_process import ServerProcess, wait_for
from tests.live.test_operations import gauge

RUN, ROWS = "abandoned", 60_000
ABANDONED = 8


@pytest.fixture(scope="module")
def _run(server: ServerProcess) -> None:
    """A run with so many rows that its export takes a second."""
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((ROWS, 2), dtype=np.float32), rng.integers(0, 2, ROWS)
    body = save({"logits": logits, "targets": targets, "ids": np.arange(ROWS)}, {"request": '{"outputs": []}'})
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.put(f"/runs/{RUN}", json={}).raise_for_status()
        client.put(f"/runs/{RUN}/epochs/0/batches/all", content=body, headers=SAFETENSORS).raise_for_status()


def question(number: int) -> str:
    """The path of a question whose result is not cached."""
    return f"/runs/{RUN}/export?format=csv&gamma={2 + number / 1000}"


def cpu_s(server: ServerProcess) -> float:
    """Seconds of processor time that the service has used."""
    ticks = 0
    for pid in (server.process.pid, *server.workers()):
        # User and system time, behind the name of the program.
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.usefixtures("_run")
def test_the_queries_of_a_client_that_leaves_are_interrupted(server: ServerProcess, client: httpx.Client) -> None:
    before = cpu_s(server)
    assert client.get(question(0)).status_code == 200
    one_s = cpu_s(server) - before
    before = cpu_s(server)
    with ExitStack() as stack:
        for number in range(1, 1 + ABANDONED):
            connection = stack.enter_context(Connection(server))
            connection.send(f"GET {question(number)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: gauge(client, "focal_loss_questions_held") > 1, "questions are at work")
    wait_for(lambda: gauge(client, "focal_loss_questions_held") == 0, "their places are free")
    # Behind those that are at work or wait for a thread.
    assert client.get(f"/runs/{RUN}/examples?limit=1").status_code == 200
    # Two threads of each process have begun to work on one. Without an interrupt they would have taken all of its time.
    assert cpu_s(server) - before < 2 * one_s
    wait_for(lambda: not list(server.data_dir.glob("temporary/*/export-*")), "their files are deleted")
