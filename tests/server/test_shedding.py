"""What a full service says from the head alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from service.api.app import create_app
from service.api.state import Service
from service.compute.device import Engine
from service.compute.siblings import REQUESTS, Counts, Siblings
from service.server import shedding as shedding_module
from service.server.shedding import LOOKS_EVERY_S, WAITS_S, Line, Shedding, room
from service.settings import Settings
from tests.clock import Clock

KEY = "a-long-enough-key"


@contextmanager
def service_with(
    tmp_path: Path, queue_size: int, held: Sequence[int] = (0,), api_keys: tuple[SecretStr, ...] = ()
) -> Iterator[Service]:
    """Of as many processes as hold requests."""
    siblings = Siblings(counts=Counts(len(held)), processes=len(held))
    for process, count in enumerate(held):
        siblings.counts.add(process, REQUESTS, count)
    settings = Settings(queue_size=queue_size, data_dir=str(tmp_path), api_keys=api_keys)
    service: Service = create_app(settings, siblings).state.service
    try:
        yield service
    finally:
        service.engine.close()
        service.runs.close()


@pytest.fixture(params=[(), (SecretStr(KEY),)], ids=["open", "with keys"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with service_with(tmp_path, 2, api_keys=request.param) as service:
        yield service


def fill(service: Service, requests: int = 2) -> None:
    service.siblings.add(REQUESTS, requests)


def headers(service: Service, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    keys = service.settings.api_keys
    return [*more, *((b"authorization", f"Bearer {key.get_secret_value()}".encode()) for key in keys)]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_as_many_are_let_through_as_there_are_places(service: Service) -> None:
    fill(service, 1)
    shedding = Shedding(service)
    assert shedding(b"POST", b"/loss", headers(service)) is None
    # It has not taken its place yet, which is there all the same for one request only.
    assert shedding(b"POST", b"/loss", headers(service)) is not None
    assert shedding(b"GET", b"/loss", headers(service)) is None
    await asyncio.sleep(0)
    assert shedding(b"POST", b"/loss", headers(service)) is None


@pytest.mark.parametrize("target", [b"/loss", b"/loss?top_k=3"])
def test_a_request_without_a_place_is_refused_and_counted(service: Service, target: bytes) -> None:
    fill(service)
    refused = Shedding(service)(b"POST", target, headers(service, (b"x-request-id", b"mine")))
    assert refused is not None
    error, request_id = refused
    assert (error.status, error.code, request_id) == (429, "queue_full", "mine")
    assert error.headers == {"Retry-After": "1"}
    counted = 'focal_loss_requests_total{method="POST",route="/loss",status="429"} 1.0'
    assert counted in service.metrics.exposition()
    with pytest.raises(type(error)) as caught, service.engine.admit():
        pass
    assert caught.value.problem() == error.problem()


def test_an_id_that_cannot_be_taken_is_replaced(service: Service) -> None:
    fill(service)
    refused = Shedding(service)(b"POST", b"/loss", headers(service, (b"x-request-id", b"a b\xff")))
    assert refused is not None
    assert len(refused[1]) == 32


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b"/loss"), (b"POST", b"/lossy"), (b"POST", b"/loss/x"), (b"GET", b"/metrics")]
)
def test_everything_else_goes_its_way(service: Service, method: bytes, target: bytes) -> None:
    fill(service)
    assert Shedding(service)(method, target, headers(service)) is None


@pytest.mark.parametrize("value", [b"", b"Bearer another-long-key-x", b"Basic " + KEY.encode(), KEY.encode(), b"\xff"])
def test_who_has_no_key_hears_that_first(service: Service, value: bytes) -> None:
    fill(service)
    refused = Shedding(service)(b"POST", b"/loss", [(b"authorization", value)])
    assert (refused is None) == bool(service.settings.api_keys)


def test_of_many_refusals_one_line_a_second_is_logged_with_their_number(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    fill(service)
    shedding = Shedding(service)
    with capture_logs() as lines:
        for seconds in (0, 0.4, 0.5, 0.2):
            now += seconds
            assert shedding(b"POST", b"/loss", headers(service, (b"x-request-id", b"r%d" % len(lines))))
    assert [(line["event"], line["request_id"], line["requests"]) for line in lines] == [
        ("refused", "r0", 1),
        ("refused", "r1", 3),
    ]
    assert {(line["status"], line["code"], line["log_level"]) for line in lines} == {(429, "queue_full", "warning")}


@pytest.mark.parametrize(
    ("queue_size", "held", "let_in"),
    [
        (8, [0], 4),
        (8, [3], 1),
        (8, [4], 0),
        (8, [8], 0),
        # Each process has its share, however many the others hold, as long as there is a place at all.
        (8, [1, 0], 1),
        (8, [0, 6], 2),
        (8, [0, 7], 1),
        (8, [0, 8], 0),
        (8, [2, 0], 0),
        # The smallest queues let somebody in, too, when nobody is there.
        (1, [0], 1),
        (1, [1], 0),
        (2, [0, 0], 1),
        (3, [1], 1),
    ],
)
def test_who_waits_fills_half_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_size: int, held: list[int], let_in: int
) -> None:
    monkeypatch.setattr(Engine, "waiting", queue_size)
    with service_with(tmp_path, queue_size, held) as service:
        assert room(service) == let_in


@pytest.mark.parametrize(
    ("held", "waiting", "let_in"), [(8, 2, 1), (8, 3, 0), (15, 0, 1), (16, 0, 0), (5, 0, 3), (5, 9, 3)]
)
def test_one_more_comes_in_when_those_who_have_a_place_give_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, waiting: int, let_in: int
) -> None:
    monkeypatch.setattr(Engine, "waiting", waiting)
    with service_with(tmp_path, 16, [held]) as service:
        # The share is 8 places, and a quarter of it is little work. At 5 the places decide.
        assert room(service) == let_in


class TestLine:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(shedding_module.asyncio, "get_running_loop", lambda: clock)
        return clock

    def test_as_many_go_on_as_there_are_places_in_the_order_in_which_they_came(self, clock: Clock) -> None:
        free, gone = 0, []
        line = Line(lambda: free)
        for number in range(5):
            line.wait(partial(gone.append, number))
        clock.pass_to(0.5)
        assert gone == []
        free = 2
        clock.pass_to(0.5 + LOOKS_EVERY_S)
        assert gone == [0, 1]
        free = 9
        clock.pass_to(0.5 + 2 * LOOKS_EVERY_S)
        assert gone == [0, 1, 2, 3, 4]
        assert clock.is_idle

    def test_nobody_waits_longer_than_retry_after_says(self, clock: Clock) -> None:
        gone: list[int] = []
        line = Line(lambda: 0)
        line.wait(partial(gone.append, 0))
        clock.pass_to(0.5)
        line.wait(partial(gone.append, 1))
        clock.pass_to(WAITS_S - 0.01)
        assert gone == []
        clock.pass_to(WAITS_S + LOOKS_EVERY_S)
        assert gone == [0]
        clock.pass_to(0.5 + WAITS_S + LOOKS_EVERY_S)
        assert gone == [0, 1]
        assert clock.is_idle

    def test_who_comes_back_waits_again(self, clock: Clock) -> None:
        free, gone = 1, []
        line = Line(lambda: free)

        def again() -> None:
            gone.append(clock.now)
            if len(gone) < 3:
                line.wait(again)

        line.wait(again)
        clock.pass_to(1)
        assert gone == pytest.approx([LOOKS_EVERY_S, 2 * LOOKS_EVERY_S, 3 * LOOKS_EVERY_S])
        assert clock.is_idle

    @pytest.mark.parametrize("target", [b"/loss", b"/loss?top_k=3"])
    def test_who_is_answered_lets_the_first_in_and_stands_behind_the_last(self, clock: Clock, target: bytes) -> None:
        free, gone = 5, []
        line = Line(lambda: free)
        line.wait(partial(gone.append, 0))
        line.wait(partial(gone.append, 1))
        assert line.after_answer(target, partial(gone.append, 2))
        # One for one, without a look.
        assert gone == [0]
        free = 0
        assert line.after_answer(target, partial(gone.append, 3))
        assert gone == [0]
        free = 1
        assert line.after_answer(target, partial(gone.append, 4))
        assert gone == [0, 1]
        free = 9
        clock.pass_to(LOOKS_EVERY_S)
        assert gone == [0, 1, 2, 3, 4]
        assert clock.is_idle

    def test_where_nobody_waits_or_no_place_was_taken_nobody_stands_in_line(self, clock: Clock) -> None:
        gone: list[int] = []
        line = Line(lambda: 9)
        assert not line.after_answer(b"/loss", partial(gone.append, 0))
        line.wait(partial(gone.append, 1))
        assert not line.after_answer(b"/healthz", partial(gone.append, 2))
        assert gone == []
        clock.pass_to(1)
        assert gone == [1]
        assert clock.is_idle

    def test_there_is_one_look_at_a_time(self, clock: Clock) -> None:
        line = Line(lambda: 1)
        line.wait(lambda: None)
        assert line.after_answer(b"/loss", lambda: None)
        line.wait(lambda: None)
        assert len(clock.timers) == 1

    def test_the_wait_is_what_the_refusal_says(self, service: Service) -> None:
        assert service.engine.full().headers == {"Retry-After": str(int(WAITS_S))}
