"""A Label Studio of a test: SQLite in a folder, on a free port of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

TOKEN = "0123456789abcdef0123456789abcdef01234567"
# The first start creates the database: 20 s on an idle machine.
STARTS_WITHIN_S, ENDS_WITHIN_S = 400.0, 30.0
ENVIRONMENT = {
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    # Without both, addresses of this machine are refused.
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "COLLECT_ANALYTICS": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "LATEST_VERSION_CHECK": "false",
}


@contextmanager
def running_label_studio(program: Path, folder: Path) -> Iterator[httpx.Client]:
    """Start Label Studio, and yield a client of its API with the rights of its only user."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "--port": str(port),
        "--internal-host": "127.0.0.1",
        "--username": "annotator@example.com",
        "--password": "password-0123456789",
        "--user-token": TOKEN,
    }
    command = [str(program), "start", "--no-browser", *(part for option in options.items() for part in option)]
    environment = {**os.environ, **ENVIRONMENT, "LABEL_STUDIO_BASE_DATA_DIR": str(folder)}
    with (folder / "label-studio.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        headers = {"Authorization": f"Token {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            _wait(client, process)
            yield client
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
        process.kill()
        process.wait()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if client.get("/api/projects/").is_success:
                return
        time.sleep(0.2)
    raise RuntimeError("Label Studio did not start")


class Project:
    """A project of Label Studio.

    Args:
        client: Client of its API.
        number: Number of the project.
    """

    def __init__(self, client: httpx.Client, number: int) -> None:
        self._client = client
        self.number = number

    @classmethod
    def create(cls, client: httpx.Client, title: str, config: str) -> Project:
        body = {"title": title, "label_config": config, "sampling": "Uncertainty sampling"}
        return cls(client, sent(client.post("/api/projects/", json=body))["id"])

    def add_webhook(self, url: str, headers: Mapping[str, str]) -> None:
        body = {
            "project": self.number,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": True,
            "headers": dict(headers),
        }
        sent(self._client.post("/api/webhooks/", json=body))

    def import_tasks(self, content: bytes) -> dict[str, Any]:
        files = {"file": ("tasks.json", content, "application/json")}
        return sent(self._client.post(f"/api/projects/{self.number}/import", files=files))

    def tasks_in_order(self, ordering: str) -> list[dict[str, Any]]:
        """The tasks as the Data Manager shows them."""
        view = {"project": self.number, "data": {"title": "order", "ordering": [ordering]}}
        number = sent(self._client.post("/api/dm/views/", json=view))["id"]
        tasks: list[dict[str, Any]] = sent(self._client.get(f"/api/tasks?view={number}&page_size=200"))["tasks"]
        return tasks

    def annotate(self, task: int, label: str | None, **annotation: Any) -> int:
        """Add an annotation, and return its number."""
        body = {"result": chosen(label), **annotation}
        return int(sent(self._client.post(f"/api/tasks/{task}/annotations/", json=body))["id"])

    def update(self, annotation: int, label: str | None, **changes: Any) -> None:
        sent(self._client.patch(f"/api/annotations/{annotation}/", json={"result": chosen(label), **changes}))

    def delete(self, annotation: int) -> None:
        self._client.delete(f"/api/annotations/{annotation}/").raise_for_status()

    def export(self) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = sent(self._client.get(f"/api/projects/{self.number}/export?exportType=JSON"))
        return tasks


def chosen(label: str | None) -> list[dict[str, Any]]:
    """The result of a choice; empty without one."""
    if label is None:
        return []
    region = {"id": "r1", "from_name": "label", "to_name": "text", "type": "choices", "origin": "manual"}
    return [{**region, "value": {"choices": [label]}}]


def sent(reply: httpx.Response) -> Any:
    """The content of a reply without an error."""
    assert reply.is_success, f"{reply.request.url}: {reply.status_code} {reply.text[:500]}"
    return reply.json()
