"""The start of several processes, and their end as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.live.server_process import ServerProcess, running_server, service_environment, wait_for
from tests.live.several_processes import (
    CONTENT,
    check_gone,
    finish,
    held_by_each,
    port_of,
    shares,
    through,
)
from tests.live.test_operations import ROWS, half_sent, held_requests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")


class TestTheStart:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_device_that_is_not_there_is_told_once(self, tmp_path: Path, temporary: Path, processes: str) -> None:
        ended = serve_briefly(tmp_path, "--device", "cuda:99", "--processes", processes)
        assert ended.returncode == 2
        assert ended.stderr.count("device cuda:99 asked for") == 1
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_port_that_is_taken(self, tmp_path: Path, temporary: Path, server: ServerProcess, processes: str) -> None:
        ended = serve_briefly(tmp_path, "--port", str(server.port), "--processes", processes)
        assert ended.returncode == 3
        assert "address already in use" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    def test_of_two_that_start_at_once_on_a_port_one_serves(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = port_of(free)
        command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--processes", "2"]
        environment = service_environment(data_dir=str(tmp_path / "data"))
        logs = [tmp_path / "one.log", tmp_path / "other.log"]
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    subprocess.Popen(command, stderr=stack.enter_context(log.open("wb")), env=environment)
                )
                for log in logs
            ]
            try:
                wait_for(lambda: any(process.poll() is not None for process in processes), "one gives up", within_s=90)
                lost = next(number for number, process in enumerate(processes) if process.poll() is not None)
                assert processes[lost].returncode == 3
                assert "address already in use" in logs[lost].read_text()
                assert "Traceback" not in logs[lost].read_text()
                wait_for(lambda: "running on" in logs[1 - lost].read_text(), "the other serves", within_s=90)
                assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            finally:
                for process in processes:
                    process.send_signal(signal.SIGINT)

    def test_a_name_for_several_addresses(self, tmp_path: Path) -> None:
        with running_server(tmp_path, "--host", "localhost", processes="2") as server:
            assert httpx.get(f"http://localhost:{server.port}/readyz").status_code == 200
            assert httpx.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 200

    def test_a_temporary_folder_with_a_long_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / ("long" * 30)
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        with running_server(tmp_path, processes="2") as server:
            one, other = server.children()
            with through(server, one) as here, through(server, other) as there:
                config_id = here.put("/configs", json={}).json()["config_id"]
                assert there.get(f"/configs/{config_id}").status_code == 200

    def test_by_itself_there_are_as_many_as_cores(self, tmp_path: Path) -> None:
        cores = min(4, len(os.sched_getaffinity(0)))
        with running_server(tmp_path, device="cpu") as server:
            assert len(server.children()) == (cores if cores > 1 else 0)


class TestTheEnd:
    @pytest.mark.parametrize("processes", ["1", "2", "3"])
    def test_sigterm(self, tmp_path: Path, temporary: Path, processes: str) -> None:
        with running_server(tmp_path, processes=processes, drain_delay_s="2") as server:
            children = server.children()
            # One process is the first one itself, and has nobody to ask.
            assert len(children) == (0 if processes == "1" else int(processes))
            assert len(list(temporary.glob("focal-loss-*"))) == (0 if processes == "1" else 1)
            with ExitStack() as stack:
                if children:
                    held = [*stack.enter_context(held_by_each(server)).values()]
                else:
                    held = [stack.enter_context(half_sent(server, len(CONTENT), CONTENT[:1]))]
                    with httpx.Client(base_url=server.url) as client:
                        wait_for(lambda: held_requests(client) == 1, "a request is held")
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "/readyz is 503")
                for _ in range(4):
                    assert httpx.get(f"{server.url}/readyz").status_code == 503
                assert httpx.post(f"{server.url}/loss", json=ROWS).status_code == 200
                wait_for(server.refuses_connections, "no new connection is taken")
                assert server.process.poll() is None
                assert [finish(connection) for connection in held] == [200] * len(held)
            assert server.process.wait(30) == 0
            check_gone(children, temporary)

    def test_sigint(self, tmp_path: Path, temporary: Path) -> None:
        with running_server(tmp_path, processes="2", drain_delay_s="60") as server, held_by_each(server) as held:
            children = server.children()
            server.process.send_signal(signal.SIGINT)
            wait_for(server.refuses_connections, "no new connection is taken")
            assert [finish(connection) for connection in held.values()] == [200, 200]
            assert server.process.wait(30) == 0
            check_gone(children, temporary)

    def test_a_second_sigterm_ends_the_delay(self, tmp_path: Path, temporary: Path) -> None:
        with running_server(tmp_path, processes="2", drain_delay_s="60") as server:
            children = server.children()
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "/readyz is 503")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            assert server.refuses_connections()
            check_gone(children, temporary)

    @pytest.mark.parametrize("first_at", ["start", "end"])
    def test_sigterm_to_all_of_them_is_one(self, tmp_path: Path, temporary: Path, first_at: str) -> None:
        """As systemd sends it to a control group."""
        with running_server(tmp_path, processes="2", drain_delay_s="60") as server:
            children = server.children()
            for pid in (server.process.pid, *children) if first_at == "start" else (*children, server.process.pid):
                os.kill(pid, signal.SIGTERM)
            for child in children:
                with through(server, child) as client:
                    wait_for(lambda: client.get("/readyz").status_code == 503, "/readyz is 503")
            # A child looks ten times a second whether it is to end.
            for _ in range(10):
                assert set(shares(server, 10)) == set(children)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            check_gone(children, temporary)

    def test_sigkill_of_the_first_process_ends_all(self, tmp_path: Path, temporary: Path) -> None:
        with running_server(tmp_path, processes="3") as server:
            children = server.children()
            assert len(list(temporary.glob("focal-loss-*"))) == 1
            server.process.kill()
            assert server.process.wait(30) == -signal.SIGKILL
            check_gone(children, temporary)
            with socket.create_server(("127.0.0.1", server.port)):
                pass

    @pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
    def test_told_to_end_while_it_starts(self, tmp_path: Path, temporary: Path, kind: signal.Signals) -> None:
        log_path = tmp_path / "service.log"
        command = [sys.executable, "-m", "service", "serve", "--port", "0", "--processes", "2"]
        environment = service_environment(data_dir=str(tmp_path / "data"))
        with (
            log_path.open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
        ):
            wait_for(lambda: "starting" in log_path.read_text(), "the first child starts", within_s=90)
            process.send_signal(kind)
            assert process.wait(60) == 0
        assert "Traceback" not in log_path.read_text()
        assert list(temporary.glob("focal-loss-*")) == []


def serve_briefly(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A service that is expected to end by itself."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", *options]
    environment = service_environment(data_dir=str(tmp_path / "data"))
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
