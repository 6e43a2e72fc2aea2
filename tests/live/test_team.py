"""A team of three reviews one queue while processes of the service are killed; the corrected data set goes back in."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.server_process import ServerProcess, running_server
from tests.live.team_member import CLASS_NAMES, RUN, truth

OWNER = "olga:a-key-of-the-owner-000"
# Name and key, way of working, and the examples that they are wrong about: at most one of them is wrong about each.
MEMBERS = {
    "ann": ("ann:a-key-of-ann-0000000", "page", 0),
    "bob": ("bob:a-key-of-bob-1111111", "page", 1),
    "label-studio:7": ("tool:a-key-of-the-tool-22", "label-studio", 2),
}
KEYS = [OWNER, *(key.replace(":", ":reviewer:") for key, _, _ in MEMBERS.values())]
EXAMPLES, ROWS, KILLS = 48, 36, 3


def given(number: int) -> int:
    """The label in the data set: every fourth one is wrong."""
    return (number + 1) % 3 if number % 4 == 0 else number % 3


def store_run(client: httpx.Client) -> None:
    client.put(RUN, json={"class_names": CLASS_NAMES}).raise_for_status()
    logits = [[4.0 if label == number % 3 else number / EXAMPLES for label in range(3)] for number in range(EXAMPLES)]
    batch: dict[str, Any] = {"logits": logits, "targets": [given(number) for number in range(EXAMPLES)]}
    batch |= {"ids": list(range(EXAMPLES)), "attributes": {"text": [f"text {number}" for number in range(EXAMPLES)]}}
    client.put(f"{RUN}/epochs/0/batches/all", json=batch).raise_for_status()
    queue = {"name": "team", "strategy": "logit_margin", "budget": ROWS, "overlap": 2}
    client.post(f"{RUN}/queues", json=queue).raise_for_status()


def kill_workers(server: ServerProcess, members: list[subprocess.Popen[str]]) -> int:
    """Kill a random worker again and again while the team works; returns the number of killed ones."""
    rng, killed = random.Random(0), 0
    while any(member.poll() is None for member in members):
        time.sleep(rng.uniform(0.2, 0.6))
        if killed < KILLS and len(workers := server.workers()) > 1:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed += 1
    return killed


def work(server: ServerProcess) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """The acknowledged verdicts of each member, and the number of killed processes."""
    commands = [
        [sys.executable, "-m", "tests.live.team_member", kind, server.url, key, str(mistakes)]
        for key, kind, mistakes in MEMBERS.values()
    ]
    members = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    killed = kill_workers(server, members)
    outputs = [member.communicate(timeout=60)[0] for member in members]
    assert [member.returncode for member in members] == [0, 0, 0]
    verdicts = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    return dict(zip(MEMBERS, verdicts, strict=True)), killed


def check_verdicts(client: httpx.Client, acknowledged: dict[str, list[dict[str, Any]]]) -> None:
    """Every acknowledged verdict is there once, with its author."""
    kept = client.get(f"{RUN}/reviews").raise_for_status().json()["reviews"]
    for name, verdicts in acknowledged.items():
        expected = {verdict["id"]: (verdict["verdict"], verdict["label"]) for verdict in verdicts}
        found = [review for review in kept if review["reviewer"] == name]
        assert len(found) == len(expected)
        assert {review["id"]: (review["verdict"], review["label"]) for review in found} == expected
    by_page = Counter(verdict["id"] for name in ("ann", "bob") for verdict in acknowledged[name])
    assert len(by_page) == ROWS
    assert len(acknowledged["label-studio:7"]) == ROWS


def settle(client: httpx.Client) -> int:
    """Settle all conflicts by the truth, and return their number."""
    rows = client.get(f"{RUN}/queues/team", params={"verdict": "conflict", "limit": 1000}).json()["rows"]
    listed = client.get(f"{RUN}/agreement").raise_for_status().json()["conflicts"]
    assert {row["id"] for row in rows} == {conflict["id"] for conflict in listed}
    for row in rows:
        right = truth(row["id"])
        verdict = {"verdict": "ok"} if right == row["target"] else {"verdict": "wrong", "label": right}
        body = {"id": row["id"], "adjudicate": True, "expected": row["review"], **verdict}
        client.post(f"{RUN}/reviews", json=[body]).raise_for_status()
    assert client.get(f"{RUN}").json()["reviews"]["num_conflict"] == 0
    return len(rows)


def check_corrected(client: httpx.Client) -> None:
    """The corrected file has the truth for every reviewed row, and can be sent as a run again."""
    content = client.get(f"{RUN}/corrected", params={"format": "csv"}).raise_for_status().content
    assert client.get(f"{RUN}/corrected", params={"format": "csv"}).content == content
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert len(rows) == EXAMPLES
    statuses = Counter(row["status"] for row in rows)
    assert statuses["unreviewed"] == EXAMPLES - ROWS
    assert statuses["kept"] + statuses["corrected"] == ROWS
    assert statuses["corrected"] > 0
    for row in rows:
        number, label = int(row["id"]), CLASS_NAMES.index(row["label"])
        assert label == (given(number) if row["status"] == "unreviewed" else number % 3)
        assert (row["text"], CLASS_NAMES.index(row["given_label"])) == (f"text {number}", given(number))
    client.put("/runs/again", json={"class_names": CLASS_NAMES}).raise_for_status()
    logits = [[4.0 if label == int(row["id"]) % 3 else 0.0 for label in range(3)] for row in rows]
    batch = {"logits": logits, "targets": [row["label"] for row in rows], "ids": [row["id"] for row in rows]}
    client.put("/runs/again/epochs/0/batches/all", json=batch).raise_for_status()
    diagnostics = client.get("/runs/again/diagnostics").raise_for_status().json()
    assert diagnostics["calibration"]["accuracy"] == pytest.approx(
        1 - sum(given(n) != n % 3 for n in unreviewed(rows)) / EXAMPLES
    )


def unreviewed(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["id"]) for row in rows if row["status"] == "unreviewed"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are found by /proc")
def test_a_team_reviews_a_queue_while_processes_are_killed(tmp_path: Path) -> None:
    with running_server(tmp_path, processes="2", api_keys=",".join(KEYS)) as server:
        headers = {"Authorization": f"Bearer {OWNER.partition(':')[2]}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            store_run(client)
            acknowledged, killed = work(server)
        assert killed > 0
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            check_verdicts(client, acknowledged)
            # All mistakes are conflicts: those of each reviewer about the rows that he reviewed.
            mistaken = {"ann": 0, "bob": 1, "label-studio:7": 2}
            expected = sum(
                int(verdict["id"]) % 7 == mistaken[name] for name, all_ in acknowledged.items() for verdict in all_
            )
            assert settle(client) == expected
            check_corrected(client)
