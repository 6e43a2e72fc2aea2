"""A reviewer of the team of test_team.py, in a process of its own.

    python -m tests.live.team_member page|label-studio URL KEY MISTAKES

Reviews the rows of the queue `team` of the run `team`, and prints each verdict as JSON after the service acknowledged
it. A request without a reply is sent again. The right class of example `n` is `n % 3`; a reviewer is wrong about the
examples with `n % 7 == MISTAKES`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx

from tests.tool_reviews.events import choice, event_of

CLASS_NAMES = ["cat", "dog", "bird"]
RUN = "/runs/team"
Row = dict[str, Any]


def truth(identity: str) -> int:
    return int(identity) % 3


def judged(row: Row, mistakes: int) -> tuple[str, int | None]:
    """Verdict and class of a reviewer."""
    right = truth(row["id"])
    if int(row["id"]) % 7 == mistakes:
        right = (right + 1) % 3
    return ("ok", None) if right == row["target"] else ("wrong", right)


def send(client: httpx.Client, path: str, body: object) -> httpx.Response:
    """Send a request until there is a reply: a process of the service may be killed at any time."""
    while True:
        try:
            reply = client.post(path, json=body)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if reply.status_code < 500:
            return reply
        time.sleep(0.05)


def acknowledged(identity: str, verdict: str, label: int | None) -> None:
    print(json.dumps({"id": identity, "verdict": verdict, "label": label}), flush=True)


def review(client: httpx.Client, row: Row, verdict: str, label: int | None) -> None:
    """Store a verdict as the page does: if someone was faster, look at his verdict, and send one's own again."""
    body = {"id": row["id"], "verdict": verdict, "label": label, "queue": "team", "expected": row["review"]}
    while (reply := send(client, f"{RUN}/reviews", [body])).status_code == 409:
        current = reply.json()["current"]
        if current["reviewer"] == client.headers["x-name"]:
            # Stored, but its reply was lost.
            break
        body["expected"] = current["review"]
    assert reply.status_code in (201, 409), reply.text
    acknowledged(row["id"], verdict, label)


def on_the_page(client: httpx.Client, mistakes: int) -> None:
    while rows := send(client, f"{RUN}/queues/team/next?limit=3", None).json()["rows"]:
        for row in rows:
            review(client, row, *judged(row, mistakes))


def in_label_studio(client: httpx.Client, mistakes: int) -> None:
    """Each event arrives twice, and every fifth annotation has a first state that it corrects."""
    rows = client.get(f"{RUN}/queues/team", params={"limit": 1000, "fields": "id,target"}).json()["rows"]
    for number, row in enumerate(rows, start=1):
        verdict, label = judged(row, mistakes)
        chosen = CLASS_NAMES[row["target"] if label is None else label]
        states = [chosen] if number % 5 else [CLASS_NAMES[(truth(row["id"]) + 2) % 3], chosen]
        for second, state in enumerate(states):
            event = event_of(row["id"], [choice(state)], number=number, second=second, completed_by=7)
            for _ in range(2):
                reply = send(client, f"{RUN}/label-studio/webhook", event)
                assert reply.is_success, reply.text
        acknowledged(row["id"], verdict, label)


def main() -> None:
    kind, url, key, mistakes = sys.argv[1:]
    name, _, secret = key.partition(":")
    headers = {"Authorization": f"Bearer {secret}", "x-name": name}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        {"page": on_the_page, "label-studio": in_label_studio}[kind](client, int(mistakes))


if __name__ == "__main__":
    main()
