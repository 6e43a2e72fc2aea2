"""What the processes of one service share, and what one asks the others."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from service.compute import siblings
from service.compute.device import Engine
from service.compute.siblings import BYTES, CLOSED, REQUESTS, Counts, Siblings
from service.errors import QueueFullError


class TestCounts:
    def test_what_a_fork_counts_is_seen_by_both(self) -> None:
        counts = Counts(2)
        counts.add(0, REQUESTS, 3)
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            counts.add(1, REQUESTS, 4)
            counts.add(1, CLOSED, 2**40)
            os.read(heard, 1)
            # What the parent has counted since, too.
            os._exit(counts.total(REQUESTS))
        counts.add(0, REQUESTS, 5)
        os.write(told, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 12
        for end in (heard, told):
            os.close(end)
        assert (counts.of(0, REQUESTS), counts.of(1, REQUESTS), counts.total(REQUESTS)) == (8, 4, 12)
        assert (counts.total(CLOSED), counts.total(BYTES)) == (2**40, 0)

    def test_the_row_of_one_that_ended_is_forgotten(self) -> None:
        counts = Counts(3)
        for process in range(3):
            for kind in (REQUESTS, BYTES, CLOSED):
                counts.add(process, kind, 10 + process)
        counts.forget(1)
        assert [counts.of(process, BYTES) for process in range(3)] == [10, 0, 12]
        assert [counts.total(kind) for kind in (REQUESTS, BYTES, CLOSED)] == [22, 22, 22]

    def test_each_counts_in_its_own_row(self) -> None:
        counts = Counts(2)
        one, other = Siblings(0, counts), Siblings(1, counts)
        one.add(BYTES, 7)
        other.add(BYTES, 5)
        other.add(BYTES, -1)
        assert (one.of(BYTES), other.of(BYTES)) == (7, 4)
        assert one.total(BYTES) == other.total(BYTES) == 11


class TestBounds:
    """Two engines that stand for two processes."""

    @pytest.fixture
    def engines(self) -> Iterator[list[Engine]]:
        counts = Counts(2)
        made = [
            Engine("cpu", workers=1, queue_size=2, max_queued_bytes=100, siblings=Siblings(number, counts))
            for number in range(2)
        ]
        yield made
        for engine in made:
            engine.close()

    def test_they_hold_for_both_together(self, engines: list[Engine]) -> None:
        one, other = engines
        with one.admit() as admission, other.admit() as theirs:
            for engine in engines:
                with pytest.raises(QueueFullError, match="queue_size"), engine.admit():
                    pass
            admission.hold(60)
            with pytest.raises(QueueFullError, match=r"^60 bytes of request bodies are held, 41 more"):
                theirs.hold(41)
            theirs.hold(40)
            assert (one.requests, one.queued_bytes) == (1, 60)
            assert (other.requests, other.queued_bytes) == (1, 40)
        with other.admit() as admission:
            admission.hold(100)
        assert [(engine.requests, engine.queued_bytes) for engine in engines] == [(0, 0), (0, 0)]

    def test_of_two_that_ask_at_once_for_the_last_place_one_gets_it(
        self, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        total, outcomes = Siblings.total, list[bool]()

        def tried(work: Callable[[], object]) -> bool:
            with suppress(QueueFullError):
                work()
                return True
            return False

        def both(one: Callable[[], object], other: Callable[[], object]) -> list[bool]:
            """The other process comes between what the one reads and what it does with it."""
            outcomes.clear()

            def amid(self: Siblings, kind: int) -> int:
                found = total(self, kind)
                monkeypatch.setattr(Siblings, "total", total)
                outcomes.append(tried(other))
                return found

            monkeypatch.setattr(Siblings, "total", amid)
            outcomes.append(tried(one))
            return outcomes

        one, other = engines
        with ExitStack() as held:
            here, there = held.enter_context(one.admit()), held.enter_context(other.admit())
            assert both(lambda: here.hold(60), lambda: there.hold(60)) == [False, True]
            assert (one.queued_bytes, other.queued_bytes) == (60, 0)
        with ExitStack() as held:
            held.enter_context(one.admit())
            admits = [lambda engine=engine: held.enter_context(engine.admit()) for engine in engines]
            assert both(*admits) == [False, True]
            assert (one.requests, other.requests) == (2, 0)


@asynccontextmanager
async def opened(folder: Path, *answers: Callable[[Any], Any]) -> AsyncIterator[list[Siblings]]:
    """Processes in one event loop, as many as there are answers."""
    made = [Siblings(number, Counts(len(answers)), folder, len(answers)) for number in range(len(answers))]
    for sibling, answer in zip(made, answers, strict=True):
        await sibling.open(answer)
    yield made
    for sibling in made:
        sibling.close()


def echo(question: Any) -> Any:
    return question


@pytest.mark.anyio
class TestAsking:
    """Each test ends long before a process that does not answer would be left out."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(siblings, "ANSWER_WITHIN_S", 600.0)

    async def test_all_others_are_asked(self, tmp_path: Path) -> None:
        question = {"held": "ü" * 100_000, "number": 1.5, "nothing": None}
        async with opened(tmp_path, lambda _: "first", echo, lambda asked: [asked["number"]]) as (one, two, three):
            assert await one.ask(question) == [question, [1.5]]
            assert await two.ask(question) == ["first", [1.5]]
            assert await three.ask(question) == ["first", question]

    async def test_they_ask_each_other_at_once(self, tmp_path: Path) -> None:
        async with opened(tmp_path, echo, echo) as both:
            found = await asyncio.gather(*(sibling.ask(number) for number in range(50) for sibling in both))
        assert found == [[number] for number in range(50) for _ in both]

    async def test_who_has_no_others_has_no_answers(self) -> None:
        alone = Siblings()
        await alone.open(echo)
        assert await alone.ask("anything") == []
        assert alone.ask_from_thread("anything") == []
        alone.close()
        alone.remove_sockets()
        assert alone.processes == 1

    async def test_one_that_is_not_there_is_left_out(self, tmp_path: Path) -> None:
        async with opened(tmp_path, echo, echo, echo) as (one, two, three):
            two.close()
            assert await one.ask(1) == [1]
            (tmp_path / "1").unlink()
            assert await one.ask(2) == [2]
            # It is started again, and finds the socket of the one before it where that was killed.
            for answer in ("again", "and again"):
                with closing(Siblings(1, None, tmp_path, 3)) as started:
                    await started.open(lambda _, answer=answer: answer)
                    assert await one.ask(3) == [answer, 3]
                    assert await three.ask(4) == [4, answer]

    async def test_one_that_does_not_answer_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(siblings, "ANSWER_WITHIN_S", 0.05)
        silent = asyncio.Event()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await silent.wait()
            writer.close()

        server = await asyncio.start_unix_server(serve, tmp_path / "1")
        async with opened(tmp_path, echo) as (one,):
            asks = Siblings(2, None, tmp_path, 3)
            assert await asks.ask("anything") == ["anything"]
            assert await one.ask("anything") == []
        silent.set()
        server.close()

    @pytest.mark.parametrize("answer", [b"", b"{", b"\xff\xfe", b"[1, 2"])
    async def test_a_broken_answer_is_left_out(self, tmp_path: Path, answer: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.write(answer)
            writer.close()

        server = await asyncio.start_unix_server(serve, tmp_path / "1")
        with closing(server), closing(Siblings(2, None, tmp_path, 3)) as sound:
            await sound.open(echo)
            assert await Siblings(0, None, tmp_path, 3).ask("anything") == ["anything"]

    async def test_what_is_no_question_gets_no_answer(self, tmp_path: Path) -> None:
        def answer(question: Any) -> Any:
            if question != "known":
                raise ValueError(f"unknown question {question!r}")
            return "answer"

        async with opened(tmp_path, echo, answer) as (one, _):
            assert await one.ask("unknown") == []
            reader, writer = await asyncio.open_unix_connection(tmp_path / "1")
            writer.write(b"{")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert await one.ask("known") == ["answer"]

    async def test_who_asks_and_leaves_does_no_harm(self, tmp_path: Path) -> None:
        async with opened(tmp_path, echo, lambda _: "x" * 10**7) as (one, _):
            _, writer = await asyncio.open_unix_connection(tmp_path / "1")
            writer.write(json.dumps("anything").encode())
            writer.write_eof()
            writer.transport.abort()
            assert len((await one.ask("anything"))[0]) == 10**7

    async def test_from_another_thread(self, tmp_path: Path) -> None:
        async with opened(tmp_path, echo, lambda _: threading.current_thread().name) as (one, _):
            answers = await asyncio.to_thread(one.ask_from_thread, "anything")
            # The other answers on its loop, wherever it is asked from.
            assert answers == [threading.current_thread().name]

    async def test_a_thread_whose_loop_does_not_turn_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(siblings, "ANSWER_WITHIN_S", 0.05)
        async with opened(tmp_path, echo, echo) as (one, _):
            answers: list[Any] = []
            thread = threading.Thread(target=lambda: answers.append(one.ask_from_thread("anything")))
            thread.start()
            # As at the end, when the loop waits for its threads.
            thread.join(60)
            assert answers == [[]]

    async def test_the_sockets_go_with_their_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "sockets"
        folder.mkdir()
        async with opened(folder, echo, echo) as (one, two):
            assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]
            one.remove_sockets()
            assert not folder.exists()
            two.remove_sockets()
            assert await one.ask("anything") == []
