"""A process of several that ends, is stuck or starved: the service goes on."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.contract.run_batches import JSON, SAFETENSORS, batch_of, encoded
from tests.contract.test_errors import check_problem
from tests.live.server_process import is_running, running_server, wait_for
from tests.live.several_processes import (
    HEALTH,
    check_gone,
    connected,
    finish,
    held_by_each,
    shares,
    stopped,
    through,
)
from tests.live.test_operations import ROWS, held_requests, read_reply

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")


THIRD_FORK_FAILS = """
import errno, itertools, os
fork, count = os.fork, itertools.count(1)
def failing():
    if next(count) == 3:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    return fork()
os.fork = failing
"""


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

    def test_without_room_for_another_process_it_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sitecustomize.py").write_text(THIRD_FORK_FAILS)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        with running_server(tmp_path, processes="2") as server:
            victim, other = server.children()
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: "a process was not started" in server.log_path.read_text(), "the fork fails")
            assert shares(server, 2) == {other: 2}
            wait_for(lambda: len(server.children()) == 2, "another is started")

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

    def test_without_file_descriptors_it_leaves_connections_where_they_are(self, tmp_path: Path) -> None:
        # Those that wait for a descriptor, one in a second, send no head meanwhile.
        with running_server(tmp_path, processes="2", head_timeout_s="600") as server:
            starved, other = server.children()
            soft, hard = resource.prlimit(starved, resource.RLIMIT_NOFILE)
            with ExitStack() as stack:
                client = stack.enter_context(through(server, other))
                used = max(int(file.name) for file in Path(f"/proc/{starved}/fd").iterdir())
                resource.prlimit(starved, resource.RLIMIT_NOFILE, (used + 3, hard))
                connections = [stack.enter_context(connected(server)) for _ in range(30)]
                wait_for(lambda: "no file descriptor" in server.log_path.read_text(), "one is lost")
                assert client.post("/loss", json=ROWS).status_code == 200
                resource.prlimit(starved, resource.RLIMIT_NOFILE, (soft, hard))
                answers = []
                for connection in connections:
                    with suppress(ConnectionError):
                        connection.sendall(HEALTH)
                        answers.append(connection.recv(12))
                # One in a second that it took; not all that came to it.
                assert answers.count(b"HTTP/1.1 200") >= 25
            wait_for(lambda: min(shares(server, 12).values()) >= 5, "connections are spread again")
