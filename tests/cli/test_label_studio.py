"""`focal-loss review --label-studio`, against a Label Studio of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
import typer

from service.cli.runs import label_studio
from service.cli.runs.label_studio import TOKEN_VARIABLE, exported_tasks, pull_annotations
from service.client import LossClient, RunClient
from tests.cli import command
from tests.tool_reviews.events import CLASS_NAMES, choice, event_of

URL, LEGACY = "http://studio.example", "0123456789abcdef0123456789abcdef01234567"
Studio = Callable[[httpx.Request], httpx.Response]


def tasks_of(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """A JSON export with the annotations of these events."""
    return [{**event["task"], "id": n, "annotations": [event["annotation"]]} for n, event in enumerate(events)]


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Callable[[Studio], None]:
    """A function that sets what Label Studio answers."""

    def install(answer: Studio) -> None:
        transport = httpx.MockTransport(answer)
        monkeypatch.setattr(label_studio.httpx, "Client", partial(httpx.Client, transport=transport))

    monkeypatch.setenv(TOKEN_VARIABLE, LEGACY)
    return install


@pytest.fixture
def run(loss_client: LossClient) -> RunClient:
    run = loss_client.put_run("pulled", class_names=CLASS_NAMES)
    run.push(0, "all", [[1.0, 0.0, 0.0]] * 3, [0, 0, 0], ["a", "b", "c"])
    return run


def test_a_pull_adds_and_withdraws(run: RunClient, studio: Callable[[Studio], None]) -> None:
    events = [event_of("a", [choice("ham")], number=1), event_of("b", [choice("spam")], number=2)]
    events.append(event_of("nosuch", [choice("ham")], number=3))
    export = tasks_of(*events)
    studio(lambda request: httpx.Response(200, json=export))

    def pull(project: int = 1) -> tuple[int, list[str]]:
        replies = list(pull_annotations(run, URL, project))
        refused = [one["detail"] for reply in replies for one in reply["refused"]]
        return sum(reply["added"] for reply in replies), refused

    assert pull() == (2, ["run pulled has no example 'nosuch'"])
    assert pull() == (0, ["run pulled has no example 'nosuch'"])
    export[:] = export[1:2]
    assert pull() == (1, [])
    (review,) = run.reviews()["reviews"]
    assert (review["id"], review["verdict"]) == ("b", "ok")
    # An older annotation of the same person, which does not count, was deleted too.
    export.append(tasks_of(event_of("b", [choice("ham")], number=4, second=5))[0])
    assert pull() == (1, [])
    export.clear()
    assert pull()[0] > 0
    assert run.reviews()["reviews"] == []
    export[:] = tasks_of(event_of("b", [choice("spam")], number=5, second=9))
    assert pull() == (1, [])
    # Those of other projects stay.
    export.clear()
    assert pull(project=2) == (0, [])
    assert pull() == (1, [])


@pytest.mark.parametrize("token", [LEGACY, "header.payload.signature"])
def test_personal_tokens_are_exchanged(
    studio: Callable[[Studio], None], monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/token/refresh/":
            assert json.loads(request.content) == {"refresh": token}
            return httpx.Response(200, json={"access": "access"})
        allowed = request.headers["Authorization"] == (f"Token {LEGACY}" if token == LEGACY else "Bearer access")
        return httpx.Response(200 if allowed else 401, json=[])

    studio(answer)
    assert exported_tasks(URL, 1) == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (httpx.Response(401, json={}), f"refuses {TOKEN_VARIABLE}"),
        (httpx.Response(404, json={}), "404 Not Found"),
        (httpx.Response(200, text="<html>"), "does not answer in JSON"),
        (httpx.Response(200, json=[{"id": 1}]), "no list of tasks with annotations"),
    ],
)
def test_another_answer_ends_the_command(
    studio: Callable[[Studio], None], capsys: pytest.CaptureFixture[str], reply: httpx.Response, message: str
) -> None:
    studio(lambda request: reply)
    with pytest.raises(typer.Exit) as ended:
        exported_tasks(URL, 1)
    assert ended.value.exit_code == 1
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_token_is_needed(studio: Callable[[Studio], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    studio(lambda request: httpx.Response(200, json=[]))
    with pytest.raises(typer.Exit) as ended:
        exported_tasks(URL, 1)
    assert ended.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label-studio", URL], "--project"),
        (["--project", "1"], "--label-studio"),
        (["--label-studio", URL, "--project", "1", "--ok", "a"], "no other verdicts"),
    ],
)
def test_the_options_go_together(options: list[str], message: str) -> None:
    ended = command.run("review", "pulled", *options)
    assert (ended.returncode, message in ended.stderr) == (2, True)
