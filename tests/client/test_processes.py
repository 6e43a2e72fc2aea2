"""Clients and recorders in forked and spawned processes, pickled and copied."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.client import AsyncLossClient, LossClient, RecordingError, RetryPolicy, RunRecorder
from service.client.processes import PerProcess
from service.errors import UnknownRunError
from tests.live.server_process import ServerProcess


def run_program(name: str, url: str) -> str:
    command = [sys.executable, "-m", "tests.client.processes", name, url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_each_worker_of_a_data_loader_gets_its_own_losses(server: ServerProcess) -> None:
    assert run_program("workers", server.url) == "fork 400 0\nspawn 400 0\n"


@pytest.mark.slow
def test_a_recorder_stores_the_rows_of_forked_and_spawned_ranks(server: ServerProcess) -> None:
    stored = "[(0, 1), (1, 2)] ['rank-0-000000', 'rank-1-000000']\n"
    assert run_program("recorder", server.url) == f"fork {stored}spawn {stored}"


@pytest.mark.slow
def test_a_forked_process_cannot_continue_a_stream(server: ServerProcess) -> None:
    assert "cannot be continued in a forked process" in run_program("stream", server.url)


def test_a_value_is_made_once_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    value = PerProcess(list[int])
    parents = value.get()
    assert value.get() is parents
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    assert value.get() is value.get() is not parents


def copies(value: Any) -> list[Any]:
    return [copy.deepcopy(value), pickle.loads(pickle.dumps(value))]


SETTINGS = {"api_key": "secret", "timeout_s": 7.0, "retry": RetryPolicy(attempts=2)}


@pytest.mark.parametrize("kind", [LossClient, AsyncLossClient])
def test_a_copied_client_has_the_same_settings_and_its_own_connections(kind: Callable[..., Any]) -> None:
    original = kind("http://example.test/", **SETTINGS)
    for client in copies(original):
        http = client._http.get()
        assert http is not original._http.get()
        assert (client.url, client._retry) == (original.url, original._retry)
        assert http.headers["Authorization"] == "Bearer secret"
        assert http.timeout == original._http.get().timeout
        run = client.run("pets")
        assert [other.name for other in copies(run)] == ["pets", "pets"]


def test_a_key_of_the_environment_is_not_in_the_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCAL_LOSS_API_KEY", "from-environment")
    client = LossClient("http://example.test")
    assert client._http.get().headers["Authorization"] == "Bearer from-environment"
    assert b"from-environment" not in pickle.dumps(client)


def test_a_copied_recorder_has_the_same_settings_and_none_of_the_rows() -> None:
    original = RunRecorder(LossClient("http://example.test").run("pets"), batch_rows=7, prefix="rank-3")
    original._recording.get().add(0, ["a"], [[0.0, 1.0]], [0], None)
    original._recording.get().sender.num_lost = 5
    for recorder in copies(original):
        recording = recorder._recording.get()
        assert (recorder.run.name, recording._options) == ("pets", original._recording.get()._options)
        assert (recorder.num_lost, recording._parts) == (0, [])
        recorder.close()
    original._recording.get()._parts.clear()
    original.close()


def test_errors_of_a_recorder_can_be_pickled() -> None:
    (error, *_) = copies(RecordingError(3, [UnknownRunError("no run")]))
    assert (error.num_lost, [type(inner) for inner in error.errors]) == (3, [UnknownRunError])


def test_a_copy_keeps_the_transport() -> None:
    client = LossClient(transport=httpx.MockTransport(reply_version))
    assert [other.info().version for other in copies(client)] == ["9.9", "9.9"]


def reply_version(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"version": "9.9", "device": "cpu"})
