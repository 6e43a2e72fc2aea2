"""Responses of Argilla become reviews of a run; the events have the form of argilla-server 2.8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.services import running_app
from tests.tool_reviews.events import CLASS_NAMES

SECRET = "whsec_" + "c2VjcmV0LW9mLXRlc3RzLTAx"
KEY = "owner-key-0123456789"


def event_of(
    identity: str = "a", label: object = "ham", kind: str = "created", second: int = 0, **members: Any
) -> dict[str, Any]:
    data = {
        "id": "5644117e-0deb-4ffa-94bc-a4cac7c15dff",
        "status": "submitted",
        "values": {"label": {"value": label}},
        "record": {
            "external_id": identity,
            "fields": {"text": "x"},
            "metadata": {"run": "mail", "queue": "monday", "given_label": "spam"},
            "dataset": {"name": "mail-monday", "questions": []},
        },
        "user": {"username": "kim", "role": "annotator"},
        "updated_at": f"2026-11-30T00:25:{second:02}.000000",
    }
    return {"type": f"response.{kind}", "version": 1, "timestamp": "2026-11-30T00:25:09.72Z", "data": data | members}


def signed(event: object, secret: str = SECRET, age: timedelta = timedelta()) -> dict[str, Any]:
    """The arguments of a signed request, as Argilla sends it."""
    body, time = json.dumps(event), datetime.now(UTC) - age
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(time.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", time, body),
        "content-type": "application/json",
    }
    return {"content": body, "headers": headers}


@pytest.fixture(scope="module")
def argilla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with a key and a secret; it sends no key."""
    folder = tmp_path_factory.mktemp("argilla")
    with running_app(folder, api_keys=KEY, argilla_webhook_secret=SECRET) as transport:
        yield httpx.Client(transport=transport, base_url="http://localhost")


OWNER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(autouse=True)
def mail(argilla: httpx.Client) -> Iterator[None]:
    """A run with two examples of the class spam."""
    argilla.put("/runs/mail", json={"class_names": CLASS_NAMES}, headers=OWNER).raise_for_status()
    batch = {"logits": [[1.0, 0.0, 0.0]] * 2, "targets": [0, 0], "ids": ["a", "b"]}
    argilla.put("/runs/mail/epochs/0/batches/b", json=batch, headers=OWNER).raise_for_status()
    yield
    argilla.delete("/runs/mail", headers=OWNER).raise_for_status()


def post(client: httpx.Client, event: object, **options: Any) -> httpx.Response:
    return client.post("/runs/mail/argilla/webhook", **signed(event, **options))


def verdicts(client: httpx.Client) -> dict[str, tuple[str, int | None]]:
    reviews = client.get("/runs/mail/reviews", headers=OWNER).json()["reviews"]
    return {review["id"]: (review["verdict"], review["label"]) for review in reviews}


def test_responses_are_verdicts(argilla: httpx.Client) -> None:
    assert post(argilla, event_of()).status_code == 201
    assert verdicts(argilla) == {"a": ("wrong", 1)}
    assert post(argilla, event_of()).json() == {"status": "ok", "added": 0, "num_refused": 0, "refused": []}
    post(argilla, event_of(label="spam", kind="updated", second=1))
    assert verdicts(argilla) == {"a": ("ok", None)}
    (review,) = argilla.get("/runs/mail/reviews", headers=OWNER).json()["reviews"]
    assert (review["reviewer"], review["queue"]) == ("argilla:kim", "monday")
    post(argilla, event_of(kind="updated", second=2, status="discarded", values=None))
    assert verdicts(argilla) == {"a": ("unsure", None)}
    post(argilla, event_of(kind="updated", second=3, status="draft"))
    assert verdicts(argilla) == {}
    post(argilla, event_of(kind="updated", second=4))
    deleted = {"type": "response.deleted", "version": 1, "data": {"id": event_of()["data"]["id"]}}
    assert post(argilla, deleted).json()["added"] == 1
    assert verdicts(argilla) == {}
    assert post(argilla, deleted).json()["added"] == 0


@pytest.mark.parametrize("kind", ["record.completed", "record.deleted", "dataset.published"])
def test_other_events_are_ignored(argilla: httpx.Client, kind: str) -> None:
    reply = post(argilla, {"type": kind, "version": 1, "data": {"id": "x"}})
    assert (reply.status_code, reply.json()["status"]) == (200, "ignored")
    assert reply.json()["hint"] == f"the type {kind!r} changes no response"


@pytest.mark.parametrize(
    ("changes", "code", "detail"),
    [
        ({"metadata": {"run": "other"}}, 422, "the record is of run 'other'"),
        ({"metadata": {}}, 422, "keep the metadata property run, or add ?dataset=NAME"),
        ({"external_id": None}, 422, "no external_id"),
        ({"external_id": "nosuch"}, 404, "run mail has no example 'nosuch'"),
    ],
)
def test_records_of_other_runs_are_refused(
    argilla: httpx.Client, changes: dict[str, Any], code: int, detail: str
) -> None:
    event = event_of()
    event["data"]["record"] |= changes
    reply = post(argilla, event)
    assert (reply.status_code, detail in reply.json()["detail"]) == (code, True)
    assert verdicts(argilla) == {}


def test_the_address_may_name_the_data_set(argilla: httpx.Client) -> None:
    event = event_of()
    event["data"]["record"]["metadata"] = {}
    url = "/runs/mail/argilla/webhook?dataset="
    assert argilla.post(f"{url}mail-monday", **signed(event)).status_code == 201
    assert argilla.post(f"{url}others", **signed(event)).status_code == 422


def test_a_verdict_and_a_comment_have_questions_of_their_own(argilla: httpx.Client) -> None:
    values = {"label": {"value": "ham"}, "verdict": {"value": "exclude"}, "comment": {"value": "cut off"}}
    post(argilla, event_of(values=values))
    (review,) = argilla.get("/runs/mail/reviews", headers=OWNER).json()["reviews"]
    assert (review["verdict"], review["label"], review["comment"]) == ("exclude", None, "cut off")
    unclear = {"species": {"value": "ham"}, "colour": {"value": "red"}}
    assert "there are answers to species, colour" in post(argilla, event_of(values=unclear)).json()["detail"]


def test_only_signed_events_are_accepted(argilla: httpx.Client) -> None:
    other_secret, url = "b3RoZXItc2VjcmV0LTAxMjM0", "/runs/mail/argilla/webhook"
    right = signed(event_of())
    changed = {**right, "content": right["content"].replace("ham", "news")}
    garbled = [
        {**right, "headers": {**right["headers"], "webhook-signature": text}}
        for text in ("v1", "v1,?", "v1,é".encode())
    ]
    binary = {**right, "content": b"\xff{}"}
    wrong = [
        signed(event_of(), secret=other_secret),
        signed(event_of(), age=timedelta(minutes=6)),
        signed(event_of(), age=timedelta(minutes=-6)),
        changed,
        *garbled,
        binary,
        {"json": event_of()},
        # A key takes no signature's place.
        {"json": event_of(), "headers": OWNER},
    ]
    replies = [argilla.post(url, **request) for request in wrong]
    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(403, "forbidden")] * len(wrong)
    assert verdicts(argilla) == {}
    # No other route is open.
    assert argilla.post("/runs/mail/label-studio/webhook", **right).status_code == 401
    assert argilla.get("/runs/mail/argilla/webhook/x").status_code == 401


def test_without_a_secret_there_is_no_webhook(client: httpx.Client) -> None:
    reply = client.post("/runs/mail/argilla/webhook", **signed(event_of()))
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert "argilla_webhook_secret is not set" in reply.json()["detail"]
