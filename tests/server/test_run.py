"""The number of processes, the configuration of uvicorn, and a worker that cannot start."""

from __future__ import annotations

import os
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from uvicorn.config import STARTUP_FAILURE

from service.api import app as app_module
from service.errors import DeviceUnavailableError
from service.server import run
from service.server.protocol import BodyProtocol
from service.settings import Settings


@pytest.mark.parametrize(("settings", "processes"), [({"processes": 3, "device": "cpu"}, 3), ({"processes": 1}, 1)])
def test_the_settings_can_name_the_number_of_processes(settings: dict[str, Any], processes: int) -> None:
    assert run.number_of_processes(Settings(**settings)) == processes


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_by_default_there_is_a_process_for_each_core_up_to_four_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert run.number_of_processes(Settings(device="cpu")) == processes


def test_by_default_there_is_one_process_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_has_cuda_driver", lambda: True)
    monkeypatch.setattr("service.compute.device.resolve_device", lambda setting: "cuda:0")
    assert run.number_of_processes(Settings()) == 1


def test_the_configuration_reaches_workers_by_pickle() -> None:
    settings = Settings(api_keys="a-long-enough-key-1", max_head_bytes=2048, head_timeout_s=3, processes=2)
    config = pickle.loads(pickle.dumps(run._config(settings)))
    assert (config.max_head_bytes, config.head_timeout_s, config.workers) == (2048, 3, 2)
    assert config.http is BodyProtocol
    assert config.app.args == (settings,)
    assert run._config(Settings(direct_body=False)).http == "auto"


@pytest.mark.parametrize(
    ("soft", "connections"), [(256, 64), (1024, 448), (8192, 4032), (10**6, 4032), (resource.RLIM_INFINITY, 4032)]
)
def test_the_connections_follow_from_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, soft))
    assert run._config(Settings()).max_connections == connections
    assert run._config(Settings(max_connections=7)).max_connections == 7


def test_the_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096), (1024, resource.RLIM_INFINITY), (20_000, 20_000)]
    new: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: new.append(pair))
    for pair in limits:
        monkeypatch.setattr(resource, "getrlimit", lambda kind, pair=pair: pair)
        run._raise_open_files()
    assert new == [(4096, 4096), (8192, resource.RLIM_INFINITY)]


def test_a_worker_whose_app_cannot_be_created_is_not_restarted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(settings: Settings) -> None:
        raise DeviceUnavailableError("cuda:0 is gone")

    monkeypatch.setattr(app_module, "create_app", fail)
    monkeypatch.setattr(run, "configure_logs", lambda level, log_format: None)
    with pytest.raises(SystemExit) as ended:
        run.make_app(Settings())
    assert ended.value.code == STARTUP_FAILURE
    assert "cuda:0 is gone" in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "is_secret", "warns"), [(0o644, False, 1), (0o640, False, 0), (0o644, True, 0)])
def test_a_file_of_keys_that_every_user_can_read_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, is_secret: bool, warns: int
) -> None:
    file = tmp_path / "keys"
    file.touch(mode)
    file.chmod(mode)
    if is_secret:
        monkeypatch.setattr(run, "SECRETS", str(tmp_path))
    with capture_logs() as logs:
        run._check_key_file(str(file))
    assert len(logs) == warns
