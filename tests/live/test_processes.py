"""A service with several worker processes: shared data, workers that end, start and shutdown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.contract.run_batches import JSON, SAFETENSORS, batch_of, encoded
from tests.contract.test_errors import check_problem
from tests.live.server_process import ServerProcess, is_running, running_server, service_environment, wait_for
from tests.live.several_processes import CONTENT, held_by, through
from tests.live.test_operations import ROWS, half_sent, held_requests, read_reply

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are found by /proc")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("several"), processes="2") as server:
        yield server


def finish(connection: socket.socket) -> int:
    """Send the remaining bytes of a body, and return the status of the reply."""
    connection.sendall(CONTENT[1:])
    return read_reply(connection)[0]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Suspend these processes inside the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def serve_briefly(tmp_path: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to exit, and return its output."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", *options]
    environment = service_environment(**{"data_dir": str(tmp_path / "data")} | settings)
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def check_gone(workers: list[int], temporary: Path) -> None:
    wait_for(lambda: not any(is_running(worker) for worker in workers), "all workers end")
    assert list(temporary.glob("focal-loss-*")) == []


class TestSharedData:
    def test_a_config_id_is_valid_in_every_worker(self, several: ServerProcess) -> None:
        first, second = several.workers()
        with through(several, first) as here, through(several, second) as there:
            put = here.put("/configs", json={"gamma": 0.125})
            config_id = put.json()["config_id"]
            assert put.status_code == 201
            assert there.put("/configs", json={"gamma": 0.125}).status_code == 200
            assert there.get(f"/configs/{config_id}").json()["config"]["gamma"] == 0.125
            assert there.post("/loss", json=ROWS | {"config_id": config_id}).status_code == 200
            sent = here.post("/loss", json=ROWS | {"config": {"gamma": 0.375}}).json()["config_id"]
            assert there.post("/loss", json=ROWS | {"config_id": sent}).json()["config_id"] == sent
            assert {config["config_id"] for config in there.get("/configs").json()["configs"]} >= {config_id, sent}
            assert there.get(f"/v2/models/{sent}/ready").status_code == 200
            assert here.delete(f"/configs/{config_id}").status_code == 204
            check_problem(here.post("/loss", json=ROWS | {"config_id": config_id}), 404, "unknown_config")
            check_problem(there.get(f"/configs/{config_id}"), 404, "unknown_config")

            def unknown_there() -> bool:
                return there.post("/loss", json=ROWS | {"config_id": config_id}).status_code == 404

            wait_for(unknown_there, "the other worker forgets it")

    def test_every_worker_returns_the_summed_metrics(self, several: ServerProcess) -> None:
        name = 'focal_loss_requests_total{method="POST",route="/loss",status="200"} '

        def count(client: httpx.Client) -> float:
            lines = client.get("/metrics").text.splitlines()
            return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

        first, second = several.workers()
        with through(several, first) as here, through(several, second) as there, held_by(several, first) as held:
            before = count(here)
            assert count(there) == before
            for client, times in ((here, 2), (there, 3)):
                for _ in range(times):
                    assert client.post("/loss", json=ROWS).status_code == 200
            assert count(here) == count(there) == before + 5
            assert held_requests(there) == held_requests(here) == 1
            assert finish(held) == 200
            assert held_requests(there) == held_requests(here) == 0

    def test_no_two_requests_have_the_same_id(self, several: ServerProcess) -> None:
        ids = {httpx.get(f"{several.url}/healthz").headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50

    def test_places_are_divided_between_the_workers(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2", queue_size="2") as server:
            first, second = server.workers()
            with through(server, first) as here, through(server, second) as there, held_by(server, first) as held:
                check_problem(here.post("/loss", json=ROWS), 429, "queue_full")
                assert there.post("/loss", json=ROWS).status_code == 200
                assert finish(held) == 200
                assert here.post("/loss", json=ROWS).status_code == 200


class TestEndedWorkers:
    def test_a_killed_worker_is_restarted_and_no_acknowledged_batch_is_lost(self, tmp_path: Path) -> None:
        content, headers = encoded(batch_of(7), SAFETENSORS), {"Content-Type": SAFETENSORS, "Accept": JSON}
        with running_server(tmp_path, processes="2") as server:
            victim, other = server.workers()
            with through(server, other) as there, through(server, victim) as here, held_by(server, victim):
                there.put("/runs/r", json={}).raise_for_status()
                config_id = here.put("/configs", json={"gamma": 0.5}).json()["config_id"]
                assert here.put("/runs/r/epochs/0/batches/0", content=content, headers=headers).status_code == 201
                assert held_requests(there) == 1
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda: not is_running(victim), "it has ended")
                assert there.post("/loss", json=ROWS | {"config_id": config_id}).status_code == 200
                assert [row["id"] for row in there.get("/runs/r/examples?sort=id").json()["rows"]] == batch_of(7)["ids"]
                again = there.put("/runs/r/epochs/0/batches/0", content=content, headers=headers)
                assert again.status_code == 200
                assert there.get("/runs/r").json()["num_rows"] == 7
                wait_for(lambda: len(server.workers()) == 2, "another is started")
                # When the new worker starts, it removes the gauges of the killed one.
                wait_for(lambda: held_requests(there) == 0, "its request is forgotten", within_s=90)
            (new,) = set(server.workers()) - {other}
            with through(server, new) as client:
                assert client.post("/loss", json=ROWS | {"config_id": config_id}).status_code == 200

    def test_requests_wait_for_new_workers_after_all_were_killed(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server:
            killed = server.workers()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not any(map(is_running, killed)), "both ended")
            # The supervisor keeps the socket: connections wait in its backlog.
            assert httpx.post(f"{server.url}/loss", json=ROWS, timeout=120).status_code == 200
            wait_for(lambda: len(server.workers()) == 2, "both are started again")

    def test_a_suspended_worker_keeps_its_connections_while_the_other_answers(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server:
            stuck, other = server.workers()
            with through(server, other) as there, held_by(server, stuck) as held:
                with stopped([stuck]):
                    assert there.post("/loss", json=ROWS).status_code == 200
                assert finish(held) == 200


class TestStart:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_an_absent_device_is_an_error_of_one_line(self, tmp_path: Path, temporary: Path, processes: str) -> None:
        ended = serve_briefly(tmp_path, "--device", "cuda:99", "--processes", processes)
        assert ended.returncode == 2
        assert ended.stderr.count("there is no device cuda:99") == 1
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_an_unknown_kind_of_store_is_an_error_of_one_line(
        self, tmp_path: Path, temporary: Path, processes: str
    ) -> None:
        ended = serve_briefly(tmp_path, "--processes", processes, data_dir="nosuchstore://bucket/path")
        assert ended.returncode == 2
        assert "data_dir nosuchstore://bucket/path" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_port_that_is_taken(
        self, tmp_path: Path, temporary: Path, several: ServerProcess, processes: str
    ) -> None:
        ended = serve_briefly(tmp_path, "--port", str(several.port), "--processes", processes)
        assert ended.returncode == 3
        assert "address already in use" in ended.stderr.lower()
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    def test_by_default_there_is_a_worker_for_each_core(self, tmp_path: Path) -> None:
        cores = min(4, len(os.sched_getaffinity(0)))
        with running_server(tmp_path, device="cpu", processes="0") as server:
            assert len(server.workers()) == (cores if cores > 1 else 0)

    def test_a_config_id_is_valid_after_a_restart(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="1") as server, httpx.Client(base_url=server.url) as client:
            config_id = client.put("/configs", json={"alpha": [1, 2], "gamma": 3}).json()["config_id"]
            loss = client.post("/loss", json=ROWS | {"config_id": config_id}).json()["loss"]
            server.process.kill()
            server.process.wait(30)
        (tmp_path / "again").mkdir()
        data = str(tmp_path / "data")
        with running_server(tmp_path / "again", processes="1", data_dir=data) as server:
            reply = httpx.post(f"{server.url}/loss", json=ROWS | {"config_id": config_id})
            assert reply.json()["loss"] == loss


class TestShutdown:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_sigterm_drains_and_lets_requests_in_flight_finish(
        self, tmp_path: Path, temporary: Path, processes: str
    ) -> None:
        with running_server(tmp_path, processes=processes, drain_delay_s="2") as server, ExitStack() as stack:
            workers = server.workers()
            assert len(workers) == (0 if processes == "1" else 2)
            if workers:
                held = [stack.enter_context(held_by(server, worker)) for worker in workers]
            else:
                held = [stack.enter_context(half_sent(server, len(CONTENT), CONTENT[:1]))]
            with httpx.Client(base_url=server.url) as client:
                wait_for(lambda: held_requests(client) == len(held), "a request is held by each")
                server.process.send_signal(signal.SIGTERM)
                # All within drain_delay_s, so on one connection.
                wait_for(lambda: client.get("/readyz").status_code == 503, "/readyz is 503")
                check_problem(client.get("/readyz"), 503, "draining")
                assert client.get("/healthz").status_code == 200
                assert client.post("/loss", json=ROWS).status_code == 200
            wait_for(server.refuses_connections, "new connections are refused")
            assert server.process.poll() is None
            assert [finish(connection) for connection in held] == [200] * len(held)
            for connection in held:
                connection.close()
            assert server.process.wait(60) == 0
            check_gone(workers, temporary)

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_sigint(self, tmp_path: Path, temporary: Path, processes: str) -> None:
        with running_server(tmp_path, processes=processes, drain_delay_s="0") as server:
            workers = server.workers()
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(60) == 0
            check_gone(workers, temporary)
        assert "Traceback" not in server.log_path.read_text()

    def test_a_second_sigterm_ends_the_delay_of_one_process(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="1", drain_delay_s="600") as server:
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "/readyz is 503")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0

    def test_sigkill_of_the_supervisor_ends_its_workers(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server:
            workers = server.workers()
            server.process.kill()
            assert server.process.wait(30) == -signal.SIGKILL
            wait_for(lambda: not any(is_running(worker) for worker in workers), "all workers end")
            with socket.create_server(("127.0.0.1", server.port)):
                pass
