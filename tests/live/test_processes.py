"""A service of several processes is one service to its clients, and ends as one."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.run_batches import JSON, SAFETENSORS, batch_of, encoded
from tests.live.server_process import ServerProcess, is_running, running_server, service_environment, wait_for
from tests.live.test_errors import check_problem
from tests.live.test_operations import ROWS, half_sent, held_requests, read_reply

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")

CONTENT = json.dumps(ROWS).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module", params=["2", "3"])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service of two and one of three processes, for the tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("several"), processes=request.param) as server:
        yield server


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of services that start from here on."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def holder(server: ServerProcess, port: int) -> int | None:
    """Which child has the connection that comes from this port of ours."""
    ends = f":{server.port:04X} ", f":{port:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if ends[0] in line[:20] and ends[1] in line[19:35]:
            wanted = f"socket:[{line.split()[9]}]"
            for pid in server.children():
                for file in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        if os.readlink(file) == wanted:
                            return pid
    return None


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """These processes do nothing in the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def port_of(connection: socket.socket) -> int:
    port: int = connection.getsockname()[1]
    return port


@contextmanager
def through(server: ServerProcess, pid: int) -> Iterator[httpx.Client]:
    """A client that this child answers; what others answer stays open, so that the child's turn comes."""
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            stream = client.get("/healthz").extensions["network_stream"]
            if holder(server, stream.get_extra_info("client_addr")[1]) == pid:
                yield client
                return
        raise AssertionError(f"no connection came to process {pid} of {server.children()}")


@contextmanager
def asked(server: ServerProcess, count: int) -> Iterator[list[socket.socket]]:
    """So many open connections that have been answered."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(connected(server)))
            connections[-1].sendall(HEALTH)
            assert read_reply(connections[-1])[0] == 200
        yield connections


@contextmanager
def held_by_each(server: ServerProcess) -> Iterator[dict[int, socket.socket]]:
    """A request whose body is not there yet in each child."""
    held: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(half_sent(server, len(CONTENT), CONTENT[:1]))
            with httpx.Client(base_url=server.url) as client:
                wait_for(lambda: holder(server, port_of(connection)), "the connection is held")  # noqa: B023
                client.get("/healthz")
            pid = holder(server, port_of(connection))
            assert pid is not None
            if pid in held:
                connection.close()
            held.setdefault(pid, connection)
            if len(held) == len(server.children()):
                break
        assert set(held) == set(server.children())
        with httpx.Client(base_url=server.url) as client:
            wait_for(lambda: held_requests(client) == len(held), "a request is held by each")
        yield held


def finish(connection: socket.socket) -> int:
    connection.sendall(CONTENT[1:])
    return read_reply(connection)[0]


def shares(server: ServerProcess, count: int) -> Counter[int | None]:
    with asked(server, count) as connections:
        return Counter(holder(server, port_of(connection)) for connection in connections)


def check_gone(children: list[int], temporary: Path) -> None:
    wait_for(lambda: not any(is_running(child) for child in children), "all processes end")
    assert list(temporary.glob("focal-loss-*")) == []


class TestOneService:
    def test_each_has_as_many_connections(self, several: ServerProcess) -> None:
        children = several.children()
        each = 12 // len(children)
        found = shares(several, 12)
        assert set(found) == set(children)
        # A connection of before may count for a moment more.
        assert all(each - 1 <= share <= each + 1 for share in found.values())

    def test_a_configuration_is_held_by_all(self, several: ServerProcess) -> None:
        one, *others = several.children()
        config = {"gamma": 1.25 + len(others)}
        for other in others:
            with through(several, one) as here, through(several, other) as there:
                put = here.put("/configs", json=config)
                assert put.status_code == 201
                config_id = put.json()["config_id"]
                again = there.put("/configs", json=config)
                assert (again.status_code, again.json()["config_id"]) == (200, config_id)
                assert there.get(f"/configs/{config_id}").json()["config"] == put.json()["config"]
                for client, times in ((here, 1), (there, 2)):
                    for _ in range(times):
                        assert client.post("/loss", json=ROWS | {"config_id": config_id}).status_code == 200
                for client in (here, there):
                    listed = client.get("/configs").json()["configs"]
                    assert [held["uses"] for held in listed if held["config_id"] == config_id] == [3]
                    assert listed[0]["config_id"] == config_id
                assert there.delete(f"/configs/{config_id}").status_code == 204
                for client in (here, there):
                    check_problem(client.get(f"/configs/{config_id}"), 404, "unknown_config")
                    check_problem(client.delete(f"/configs/{config_id}"), 404, "unknown_config")
                    check_problem(client.post("/loss", json=ROWS | {"config_id": config_id}), 404, "unknown_config")

    def test_what_only_another_holds_is_found_and_used(self, several: ServerProcess) -> None:
        one, *_, other = several.children()
        with through(several, one) as here, through(several, other) as there:
            config_id = here.put("/configs", json={"gamma": 4.5}).json()["config_id"]
            used = there.post("/loss", json=ROWS | {"config_id": config_id}).json()
            assert used["loss"] == here.post("/loss", json=ROWS | {"config": {"gamma": 4.5}}).json()["loss"]
            name = there.get(f"/v2/models/{config_id}").json()["name"]
            assert name == config_id
            assert here.delete(f"/configs/{config_id}").status_code == 204
            check_problem(there.get(f"/v2/models/{config_id}"), 404, "unknown_config")

    def test_metrics_are_the_sum_whoever_answers(self, several: ServerProcess) -> None:
        def values(client: httpx.Client) -> list[float]:
            wanted = (
                ("focal_loss_batches_total", {}),
                ("focal_loss_requests_total", {"method": "POST", "route": "/loss", "status": "200"}),
                ("focal_loss_phase_duration_seconds_count", {"phase": "compute"}),
                ("focal_loss_info", None),
            )
            samples = [
                sample
                for family in text_string_to_metric_families(client.get("/metrics").text)
                for sample in family.samples
            ]
            return [
                sum(one.value for one in samples if one.name == name and labels in (None, one.labels))
                for name, labels in wanted
            ]

        with ExitStack() as stack:
            clients = [stack.enter_context(through(several, pid)) for pid in several.children()]
            before = values(clients[0])
            for client in clients:
                assert client.post("/loss", json=ROWS).status_code == 200
            for client in clients:
                grown = [now - then for now, then in zip(values(client), before, strict=True)]
                assert grown == [len(clients)] * 3 + [0]
                assert values(client)[3] == 1


class TestBounds:
    def test_queue_size_holds_for_all_together(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2", queue_size="2") as server, held_by_each(server) as held:
            for pid in server.children():
                with through(server, pid) as client:
                    assert held_requests(client) == 2
                    check_problem(client.post("/loss", json=ROWS), 429, "queue_full")
            first, second = held.values()
            assert finish(first) == 200
            for pid in server.children():
                with through(server, pid) as client:
                    wait_for(lambda: held_requests(client) == 1, "a place is free")
                    assert client.post("/loss", json=ROWS).status_code == 200
            assert finish(second) == 200

    def test_max_queued_bytes_holds_for_all_together(self, tmp_path: Path) -> None:
        limits = {"max_body_bytes": "1000", "max_queued_bytes": str(2 * len(CONTENT) + 1000)}
        blank, headers = b" " * 1000, {"Content-Type": JSON}
        with running_server(tmp_path, processes="2", **limits) as server:
            with held_by_each(server), half_sent(server, 100), through(server, server.children()[0]) as client:
                wait_for(lambda: held_requests(client) == 3, "three requests are held")
                for pid in server.children():
                    with through(server, pid) as here:
                        reply = here.post("/loss", content=blank, headers=headers)
                        check_problem(reply, 429, "queue_full")
                        assert "max_queued_bytes" in reply.json()["detail"]
                        assert here.post("/loss", json=ROWS).status_code == 200
            with httpx.Client(base_url=server.url) as client:
                wait_for(lambda: held_requests(client) == 0, "the places are free")
                check_problem(client.post("/loss", content=blank, headers=headers), 400, "malformed_body")


class TestAChildThatEnds:
    def test_killed_it_comes_back_and_what_it_held_is_forgotten(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2", queue_size="2") as server:
            victim, other = server.children()
            with through(server, other) as kept, held_by_each(server) as held:
                check_problem(kept.post("/loss", json=ROWS), 429, "queue_full")
                assert finish(held[other]) == 200
                held.pop(other).close()
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda: held_requests(kept) == 0, "what it held is forgotten")
                assert kept.post("/loss", json=ROWS).status_code == 200
                # New connections go to who is there.
                assert shares(server, 3) == {other: 3}
                wait_for(lambda: len(server.children()) == 2, "another is started")
            (new,) = set(server.children()) - {other}
            with through(server, new) as client:
                assert client.post("/loss", json=ROWS).status_code == 200
                assert held_requests(client) == 0
            (line,) = [line for line in server.log() if "started again" in line["event"]]
            assert (line["pid"], line["status"]) == (victim, -signal.SIGKILL)
            assert all(share >= 5 for share in shares(server, 12).values())

    def test_all_killed_at_once_clients_wait_for_the_next(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server:
            killed = server.children()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len([0 for line in server.log() if "started again" in line["event"]]) == 2, "both ended")
            assert httpx.post(f"{server.url}/loss", json=ROWS, timeout=60).status_code == 200
            wait_for(lambda: len(server.children()) == 2, "both are started again")
            assert not set(killed) & set(server.children())

    def test_told_to_end_it_finishes_while_others_take_what_comes(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2", drain_delay_s="0") as server, held_by_each(server) as held:
            told, other = server.children()
            os.kill(told, signal.SIGTERM)

            def all_to_the_other() -> bool:
                return shares(server, 3) == {other: 3}

            wait_for(all_to_the_other, "it takes no connection any more")
            # It has fewer than the other, and still gets none.
            assert shares(server, 6) == {other: 6}
            assert is_running(told)
            assert finish(held[told]) == 200
            held[told].close()
            wait_for(lambda: len(server.children()) == 2 and told not in server.children(), "another is started")
            assert finish(held[other]) == 200

    def test_a_batch_that_it_acknowledged_is_there(self, tmp_path: Path) -> None:
        content, headers = encoded(batch_of(7), SAFETENSORS), {"Content-Type": SAFETENSORS, "Accept": JSON}
        with running_server(tmp_path, processes="2") as server:
            victim, other = server.children()
            with through(server, other) as there:
                there.put("/runs/r", json={}).raise_for_status()
                with through(server, victim) as here:
                    put = here.put("/runs/r/epochs/0/batches/0", content=content, headers=headers)
                    assert put.status_code == 201
                    os.kill(victim, signal.SIGKILL)
                wait_for(lambda: not is_running(victim), "it has ended")
                assert [row["id"] for row in there.get("/runs/r/examples?sort=id").json()["rows"]] == batch_of(7)["ids"]
                again = there.put("/runs/r/epochs/0/batches/0", content=content, headers=headers)
                assert again.status_code == 200
                assert there.get("/runs/r").json()["num_rows"] == 7


class TestAChildThatIsStuck:
    def test_others_answer_and_nothing_is_lost(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server, ExitStack() as stack:
            connections: list[socket.socket] = []
            with stopped(server.children()[:1]):
                for _ in range(6):
                    connections.append(stack.enter_context(connected(server)))
                    connections[-1].sendall(HEALTH)

                def answered() -> int:
                    return len(select.select(connections, [], [], 0)[0])

                # As many went to each, but for the one that asked whether the service is ready.
                wait_for(lambda: answered() >= 2, "others answer")
                assert answered() < 6
            assert [read_reply(connection)[0] for connection in connections] == [200] * 6

    def test_more_connections_than_its_channel_holds(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server, ExitStack() as stack:
            connections = []
            with stopped(server.children()):
                for _ in range(800):
                    connections.append(stack.enter_context(connected(server)))
                    connections[-1].sendall(HEALTH)
            assert [read_reply(connection)[0] for connection in connections] == [200] * 800

    def test_signals_are_heard_while_all_are_stuck(self, tmp_path: Path, temporary: Path) -> None:
        with running_server(tmp_path, processes="2", drain_delay_s="0") as server, ExitStack() as stack:
            children = server.children()
            with stopped(children):
                for _ in range(800):
                    stack.enter_context(connected(server))
                server.process.send_signal(signal.SIGTERM)
                wait_for(server.refuses_connections, "no new connection is taken")
            assert server.process.wait(60) == 0
            check_gone(children, temporary)

    def test_without_file_descriptors_it_loses_connections_and_counts_right(self, tmp_path: Path) -> None:
        with running_server(tmp_path, processes="2") as server:
            before = [(pid, resource.prlimit(pid, resource.RLIMIT_NOFILE)) for pid in server.children()]
            for pid, (_, hard) in before:
                used = max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir())
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, hard))
            with ExitStack() as stack:
                for _ in range(30):
                    stack.enter_context(connected(server))
                wait_for(lambda: "no file descriptor" in server.log_path.read_text(), "some are lost")
            for pid, limits in before:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            wait_for(lambda: min(shares(server, 12).values()) >= 5, "connections are spread again")
            assert httpx.post(f"{server.url}/loss", json=ROWS).status_code == 200


def connected(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


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


class TestTheStart:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_device_that_is_not_there_is_told_once(self, tmp_path: Path, temporary: Path, processes: str) -> None:
        ended = serve_briefly(tmp_path, "--device", "cuda:99", "--processes", processes)
        assert ended.returncode == 2
        assert ended.stderr.count("device cuda:99 asked for") == 1
        assert "Traceback" not in ended.stderr
        assert list(temporary.glob("focal-loss-*")) == []

    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_a_port_that_is_taken(
        self, tmp_path: Path, temporary: Path, several: ServerProcess, processes: str
    ) -> None:
        ended = serve_briefly(tmp_path, "--port", str(several.port), "--processes", processes)
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


def serve_briefly(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A service that is expected to end by itself."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", *options]
    environment = service_environment(data_dir=str(tmp_path / "data"))
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
