"""schemathesis with its own engine against a real service: with its key, without, and in sequences of requests.

`tests/api/test_openapi.py` sends requests to stored data in process. Here the phases of the engine cover each part of
the schemas, headers, methods and authentication, for a bounded time each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.server_process import running_server

SECONDS = os.environ.get("SCHEMATHESIS_S", "5")
KEY = "a-key-of-twenty-four-letters"
# Schemas cannot express relations between values, so a valid document may be an invalid request.
EXCLUDED_CHECKS = "positive_data_acceptance"
RUN = {
    "logits": [[0.1, 0.2, 0.3]] * 30,
    "targets": [0, 1, 2] * 10,
    "ids": [f"example/{row}" for row in range(30)],
    "attributes": {"text": ["some text"] * 30},
}
# Requests for the stored run; names that the engine invents are unknown.
CONFIGURATION = 'hooks = "hooks.py"\n[parameters]\nrun = "r"\n'
# Replies to wrong keys are delayed by address, so each request has its own.
HOOKS = """
import ipaddress, random, schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["X-Forwarded-For"] = str(ipaddress.IPv4Address(random.getrandbits(32)))
"""
FUZZING = ("--phases", "coverage,fuzzing", "--exclude-method", "DELETE")
STATEFUL = ("--phases", "stateful")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "key", "phases"),
    [
        pytest.param(KEY, KEY, FUZZING, id="with the key"),
        pytest.param(KEY, "", FUZZING, id="without the key"),
        pytest.param("", "", STATEFUL, id="stateful"),
    ],
)
def test_replies_are_as_documented(
    tmp_path: Path, keys: str, key: str, phases: Sequence[str], record_property: Callable[[str, object], None]
) -> None:
    settings = {"api_keys": keys} if keys else {}
    with running_server(tmp_path, **settings) as server:
        store_run(tmp_path, server.url, keys)
        report = run_schemathesis(tmp_path, server.url, key, phases)
        errors = [line for line in server.log() if line["level"] == "error"]
    assert report["operations"]["tested"] > 0
    assert not report["failures"], report["output"]
    assert not report["errors"], report["output"]
    assert not errors
    record_property(
        "figures", f"{report['test_cases']['generated']} cases, {report['operations']['tested']} operations"
    )


def store_run(folder: Path, url: str, key: str) -> None:
    """Store a run and a queue, and the document of the service in the folder."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        client.put("/runs/r", json={}).raise_for_status()
        client.put("/runs/r/epochs/0/batches/b", json=RUN).raise_for_status()
        (folder / "openapi.json").write_bytes(client.get("/openapi.json").raise_for_status().content)
        client.post("/runs/r/queues", json={"strategy": "logit_margin", "name": "q"}).raise_for_status()


def run_schemathesis(folder: Path, url: str, key: str, phases: Sequence[str]) -> dict[str, Any]:
    """Run `schemathesis run`, and return its report with its output."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    (folder / "hooks.py").write_text(HOOKS)
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        "openapi.json",
        "--url",
        url,
        "--max-time",
        SECONDS,
        *phases,
    ]
    command += ["--exclude-checks", EXCLUDED_CHECKS, "--report", "json", "--report-json-path", "report.json"]
    command += ["--no-color", "--generation-database", "none"]
    # A loaded machine is no fault of the service.
    command += ["--request-timeout", "60", "--suppress-health-check", "all"]
    if key:
        command += ["--header", f"Authorization:Bearer {key}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report | {"output": done.stdout[-10_000:]}
