"""Queries end when their time is over or their client has disconnected; the queries after them work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event, Timer

import pytest

from service.errors import QueryTimeoutError
from service.queries.interrupts import Cancellation, QueryCancelledError
from service.queries.run_queries import RunQueries
from service.queries.view import View
from service.storage.errors import storage_errors
from tests.lanes import mostly_slow
from tests.runs.temp_runs import TempRuns, temp_runs

# A minute of work of one core, which no optimiser shortens.
LONG = "SELECT sum(hash(a.range, b.range) % 7) AS n FROM range(200000) a, range(20000) b"
ENDLESS = "SELECT hash(range) AS n FROM range(100000000000)"


class Unlimited(Cancellation):
    """Leaves a question all the time that a busy machine needs for it."""

    def start(self, timeout_s: float) -> None:
        """Set no time."""


def at_once(view: View) -> object:
    return view.row(LONG)


def in_a_statement(view: View) -> object:
    return view.execute(f"CREATE OR REPLACE TEMP TABLE long AS {LONG}")


def while_streaming(view: View) -> object:
    return sum(len(batch) for batch in view.batches(ENDLESS))


def while_exporting(view: View) -> object:
    with storage_errors():
        return sum(len(batch) for batch in view.batches(ENDLESS))


def while_fetching(view: View) -> object:
    return view.rows(ENDLESS)


def between_queries(view: View) -> object:
    while True:
        view.row("SELECT 1 AS n")


def in_python(view: View) -> object:
    while True:
        view.check()


QUESTIONS = [at_once, in_a_statement, while_streaming, while_exporting, while_fetching, between_queries, in_python]


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create()
        temp.put([[0.0, 1.0]], [1])
        yield temp


@pytest.mark.parametrize("question", mostly_slow(QUESTIONS, quick=2))
def test_a_question_ends_when_its_time_is_over(runs: TempRuns, question: Callable[[View], object]) -> None:
    queries = RunQueries(runs.store, 2**28, threads=1, timeout_s=0.1)
    started = time.monotonic()
    with pytest.raises(QueryTimeoutError, match=r"longer than query_timeout_s, 0\.1 s") as error:
        queries.ask("r", question)
    assert time.monotonic() - started < 5
    assert error.value.status == 503
    assert int(error.value.headers["Retry-After"]) > 0
    ids = queries.ask("r", lambda view: view.rows(f"SELECT id FROM {view.stored()}"), Unlimited())
    assert ids == [{"id": "e0000"}]
    queries.close()


@pytest.mark.parametrize("question", mostly_slow(QUESTIONS, quick=2))
def test_a_question_ends_when_it_is_cancelled(runs: TempRuns, question: Callable[[View], object]) -> None:
    cancellation = Cancellation()
    timer = Timer(0.1, cancellation.cancel)
    timer.start()
    with pytest.raises(QueryCancelledError):
        runs.queries.ask("r", question, cancellation)
    timer.join()


def test_a_cancelled_question_does_not_begin(runs: TempRuns) -> None:
    cancellation, asked = Cancellation(), Event()
    cancellation.cancel()
    with pytest.raises(QueryCancelledError):
        runs.queries.ask("r", lambda view: asked.set(), cancellation)
    assert not asked.is_set()


def test_other_questions_go_on(runs: TempRuns) -> None:
    def question(view: View) -> object:
        with pytest.raises(QueryCancelledError):
            runs.queries.ask("r", at_once, other)
        return view.row("SELECT 1 AS n")

    other = Cancellation()
    timer = Timer(0.1, other.cancel)
    timer.start()
    assert runs.ask(question) == {"n": 1}
    timer.join()
