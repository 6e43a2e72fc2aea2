"""A service of several processes is one service to its clients."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.run_batches import JSON
from tests.contract.test_errors import check_problem
from tests.live.server_process import ServerProcess, running_server, wait_for
from tests.live.several_processes import (
    CONTENT,
    finish,
    held_by_each,
    shares,
    through,
)
from tests.live.test_operations import ROWS, half_sent, held_requests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")


@pytest.fixture(scope="module", params=["2", "3"])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service of two and one of three processes, for the tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("several"), processes=request.param) as server:
        yield server


class TestOneService:
    def test_each_has_as_many_connections(self, several: ServerProcess) -> None:
        children = several.children()
        each = 12 // len(children)
        found = shares(several, 12)
        assert set(found) == set(children)
        # A connection of before may count for a moment more.
        assert all(each - 1 <= share <= each + 1 for share in found.values())

    def test_no_two_requests_have_the_same_id(self, several: ServerProcess) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(through(several, child)) for child in several.children()]
            ids = [client.post("/loss", json=ROWS).headers["x-request-id"] for _ in range(20) for client in clients]
        assert len(set(ids)) == len(ids)

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
