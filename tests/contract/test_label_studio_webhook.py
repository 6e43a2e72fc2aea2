"""Annotations of Label Studio become reviews of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services import running_app
from tests.tool_reviews.events import CLASS_NAMES, RECORDED, choice, deletion_of, event_of

NewRun = Callable[..., str]
_numbers = count()

# The given labels of the recorded tasks.
GIVEN = {"m-0": 0, "m-56": 0, "m-14": 2, "m-13": 1, "m-5": 0, "m-8": 0, "m-9": 0, "m-11": 0}


@pytest.fixture
def new_run(client: httpx.Client) -> Iterator[NewRun]:
    created = []

    def create(**description: Any) -> str:
        name = f"annotated-{next(_numbers)}"
        client.put(f"/runs/{name}", json=description).raise_for_status()
        created.append(name)
        return name

    yield create
    for name in created:
        client.delete(f"/runs/{name}")


def problem(reply: httpx.Response, status: int, code: str) -> None:
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def of_run(event: Any, run: str) -> Any:
    """A recorded event whose tasks are of a run of another name."""
    return json.loads(json.dumps(event).replace('"run": "mail"', f'"run": "{run}"'))


def verdicts(client: httpx.Client, run: str) -> dict[str, tuple[str, int | None]]:
    reviews = client.get(f"/runs/{run}/reviews").json()["reviews"]
    return {review["id"]: (review["verdict"], review["label"]) for review in reviews}


@pytest.fixture
def mail(client: httpx.Client, new_run: NewRun) -> str:
    """A run with the recorded examples."""
    run = new_run(class_names=CLASS_NAMES)
    batch = {"logits": [[1.0, 0.0, 0.0]] * len(GIVEN), "targets": [*GIVEN.values()], "ids": [*GIVEN]}
    client.put(f"/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()
    return run


def post(client: httpx.Client, run: str, event: Any) -> dict[str, Any]:
    reply = client.post(f"/runs/{run}/label-studio/webhook", json=of_run(event, run))
    assert reply.status_code == (201 if reply.json()["added"] else 200)
    body: dict[str, Any] = reply.json()
    return body


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("ANNOTATION_CREATED", {"m-56": ("wrong", 2)}),
        ("ANNOTATION_CREATED.manual", {"m-14": ("wrong", 1)}),
        ("ANNOTATION_CREATED.skipped", {"m-13": ("unsure", None)}),
        ("ANNOTATION_CREATED.empty", {}),
        ("ANNOTATION_UPDATED", {"m-14": ("ok", None)}),
        ("ANNOTATION_UPDATED.unskipped", {"m-5": ("wrong", 1)}),
        ("ANNOTATIONS_CREATED", {}),
        ("NO_PAYLOAD", {}),
        ("TASKS_CREATED", {}),
        ("TASKS_DELETED", {}),
    ],
)
def test_a_recorded_event_gives_a_verdict(
    client: httpx.Client, mail: str, name: str, verdict: dict[str, tuple[str, int | None]]
) -> None:
    post(client, mail, RECORDED[name])
    assert verdicts(client, mail) == verdict
    assert post(client, mail, RECORDED[name])["added"] == 0


def test_a_late_event_changes_nothing(client: httpx.Client, mail: str) -> None:
    post(client, mail, RECORDED["ANNOTATION_UPDATED"])
    assert post(client, mail, RECORDED["ANNOTATION_CREATED.manual"])["added"] == 0
    assert verdicts(client, mail) == {"m-14": ("ok", None)}


def test_a_deletion_withdraws_the_verdict_for_good(client: httpx.Client, mail: str) -> None:
    created = event_of("m-5", [choice("ham")], number=4)
    post(client, mail, created)
    assert post(client, mail, RECORDED["ANNOTATIONS_DELETED"])["added"] == 1
    assert verdicts(client, mail) == {}
    assert post(client, mail, RECORDED["ANNOTATIONS_DELETED"])["added"] == 0
    assert post(client, mail, created)["added"] == 0


def test_a_deletion_of_another_project_changes_nothing(client: httpx.Client, mail: str) -> None:
    post(client, mail, event_of("m-5", [choice("ham")], number=4))
    assert post(client, mail, deletion_of(4, project=2))["added"] == 0
    assert post(client, mail, event_of("m-5", [choice("ham")], number=4, unique_id="other"))["added"] == 1
    # Two installations have an annotation 4 of project 1.
    assert post(client, mail, deletion_of(4))["added"] == 0


def test_another_annotation_of_the_same_person_counts_after_a_deletion(client: httpx.Client, mail: str) -> None:
    post(client, mail, event_of("m-5", [choice("ham")], number=4, second=1))
    post(client, mail, event_of("m-5", [choice("spam")], number=5, second=2))
    post(client, mail, event_of("m-5", [choice("news")], number=6, second=3, completed_by=2))
    reviews = client.get(f"/runs/{mail}/reviews").json()["reviews"]
    assert [(one["reviewer"], one["verdict"], one["label"]) for one in reviews] == [
        ("label-studio:1", "ok", None),
        ("label-studio:2", "wrong", 2),
    ]
    post(client, mail, deletion_of(5, 6))
    assert verdicts(client, mail) == {"m-5": ("wrong", 1)}


def test_only_the_run_examples_and_classes_of_the_url_are_accepted(client: httpx.Client, mail: str) -> None:
    url = f"/runs/{mail}/label-studio/webhook"
    problem(client.post(url, json=RECORDED["ANNOTATION_CREATED"]), 422, "invalid_request")
    problem(client.post(url, json=event_of("nosuch", [choice("ham")])), 404, "unknown_example")
    problem(client.post(url, json=event_of("m-5", [choice("hamm")])), 422, "invalid_request")
    problem(client.post("/runs/nosuch/label-studio/webhook", json=event_of("m-5", [])), 404, "unknown_run")
    problem(client.post("/runs/nosuch/label-studio/webhook", json={"action": "TASKS_CREATED"}), 404, "unknown_run")
    both = event_of("m-5", [choice("ham")])
    other = event_of("nosuch", [choice("ham")], number=2, task=901)
    both["annotation"] = [both["annotation"], other["annotation"]]
    both["task"] = [{**other["task"], "id": 901}, both["task"]]
    reply = post(client, mail, both | {"action": "ANNOTATIONS_CREATED"})
    assert (reply["added"], reply["num_refused"]) == (1, 1)
    assert reply["refused"][0] == {
        "annotation": "2",
        "code": "unknown_example",
        "detail": f"run {mail} has no example 'nosuch'",
    }


def test_reviews_name_the_annotation_and_no_secret_of_the_project(client: httpx.Client, mail: str) -> None:
    post(client, mail, RECORDED["ANNOTATION_CREATED"])
    (review,) = client.get(f"/runs/{mail}/reviews?history=true").json()["reviews"]
    assert review["source"] == {
        "tool": "label-studio",
        "id": "fd2b0030-3272-4bbd-88f6-06794fa6272c",
        "updated_at": "2026-11-30T00:25:09.720531+00:00",
        "project": 1,
        "annotation": 1,
    }
    assert (review["reviewer"], review["queue"], review["suggestion"]) == ("label-studio:1", "all", "shown")
    assert "project-token" not in json.dumps(review)


def test_the_given_label_is_that_of_the_last_row(client: httpx.Client, mail: str) -> None:
    batch = {"logits": [[1.0, 0.0, 0.0]], "targets": [1], "ids": ["m-5"]}
    client.put(f"/runs/{mail}/epochs/1/batches/b", json=batch).raise_for_status()
    post(client, mail, event_of("m-5", [choice("ham")]))
    assert verdicts(client, mail) == {"m-5": ("ok", None)}


def test_several_labels_are_verdicts_on_labels(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run(task="multi_label", class_names=["sea", "sky", "sun", "sand"], config={"mode": "sigmoid"})
    batch = {"logits": [[3.0, 3.0, -3.0, 0.0]], "targets": [[1, 0, 0, -100]], "ids": ["a"]}
    client.put(f"/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()
    event = event_of("a", [choice("sea", value={"choices": ["sea", "sun"]})])
    event["task"]["data"]["units"] = [{"unit": 1, "unit_name": "sky"}]

    def units() -> dict[int, tuple[str, int | None]]:
        reviews = client.get(f"/runs/{run}/reviews").json()["reviews"]
        return {one["unit"]: (one["verdict"], one["label"]) for one in reviews}

    post(client, run, event)
    # The label that the tool was to show is right, and another one is missing.
    assert units() == {1: ("ok", None), 2: ("wrong", 1)}
    event["annotation"] |= {"updated_at": "2026-11-30T00:26:00Z", "result": [choice("sky")]}
    post(client, run, event)
    assert units() == {0: ("wrong", 0), 1: ("wrong", 1)}
    event["annotation"] |= {"updated_at": "2026-11-30T00:27:00Z", "result": [], "was_cancelled": True}
    post(client, run, event)
    assert units() == {1: ("unsure", None)}


def marked(*spans: tuple[int, int, str]) -> list[dict[str, Any]]:
    return [
        {"from_name": "label", "type": "labels", "value": {"start": start, "end": end, "labels": [label]}}
        for start, end, label in spans
    ]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (marked((0, 8, "PER"), (16, 20, "LOC")), "ok"),
        (marked((0, 8, "PER"), (9, 12, "O"), (16, 20, "LOC")), "ok"),
        (marked((0, 8, "PER")), "wrong"),
        (marked((0, 8, "LOC"), (16, 20, "LOC")), "wrong"),
        ([], None),
    ],
)
def test_spans_are_compared_with_the_given_entities(
    client: httpx.Client, new_run: NewRun, result: list[dict[str, Any]], verdict: str | None
) -> None:
    run = new_run(task="tokens", class_names=["O", "B-PER", "I-PER", "B-LOC"])
    # Ada, King (in two parts, the second one ignored), ran, to, Rome
    batch = {
        "layout": "ragged",
        "logits": [[[0.0, 1.0, 0.0, 0.0]] * 6],
        "targets": [[1, 2, -100, 0, 0, 3]],
        "ids": ["a"],
        "attributes": {
            "text": ["Ada King ran to Rome"],
            "token_offsets": [[[0, 3], [4, 6], [6, 8], [9, 12], [13, 15], [16, 20]]],
        },
    }
    client.put(f"/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()
    post(client, run, event_of("a", result))
    reviews = client.get(f"/runs/{run}/reviews").json()["reviews"]
    assert [one["verdict"] for one in reviews] == ([] if verdict is None else [verdict])
    if verdict == "wrong":
        assert reviews[0]["comment"].startswith("entities: 'Ada King'")


def test_a_region_of_a_mask_says_that_it_is_wrong(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run(task="masks", class_names=["sky", "sea"])
    batch = {"layout": "dense", "logits": [[[[0.0, 1.0]], [[1.0, 0.0]]]], "targets": [[[0, 1]]], "ids": ["a"]}
    client.put(f"/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()
    post(client, run, event_of("a", [{"from_name": "label", "type": "brushlabels", "value": {"rle": []}}]))
    assert verdicts(client, run) == {"a": ("wrong", None)}
    verdict = {"from_name": "verdict", "type": "choices", "value": {"choices": ["ok"]}}
    post(client, run, event_of("a", [verdict], second=1))
    assert verdicts(client, run) == {"a": ("ok", None)}


@pytest.mark.parametrize(("share", "suggestion"), [(1.0, "hidden"), (0.0, "shown")])
def test_rows_without_a_suggestion_have_none_in_the_tool(
    client: httpx.Client, mail: str, share: float, suggestion: str
) -> None:
    query = {"strategy": "top_loss", "budget": 8, "name": "all", "without_suggestion": share}
    client.post(f"/runs/{mail}/queues", json=query).raise_for_status()
    exports = {
        kind: client.get(f"/runs/{mail}/export", params={"format": kind, "queue": "all"}).content
        for kind in ("label-studio", "argilla")
    }
    task = next(one for one in json.loads(exports["label-studio"]) if one["data"]["external_id"] == "m-13")
    record = next(one for one in map(json.loads, exports["argilla"].splitlines()) if one["id"] == "m-13")
    is_hidden = suggestion == "hidden"
    assert (task["predictions"][0]["result"] == []) == is_hidden
    assert ("label.suggestion" not in record) == is_hidden
    if is_hidden:
        # The only class that the model suggests is in no text either.
        assert "spam" not in json.dumps([task, record])
    event = event_of("m-13", [choice("spam")])
    event["task"] |= task
    post(client, mail, event)
    (review,) = client.get(f"/runs/{mail}/reviews").json()["reviews"]
    assert (review["verdict"], review["suggestion"]) == ("wrong", suggestion)


def test_the_version_names_the_epoch(client: httpx.Client, mail: str) -> None:
    base = f"/runs/{mail}/label-studio"
    assert client.get(f"{base}/versions").json() == {"versions": [f"focal-{mail}/0"]}
    assert client.post(f"{base}/setup", json={}).json() == {"model_version": f"focal-{mail}/0"}


def test_reviewers_may_send_annotations_with_basic(tmp_path: Path) -> None:
    keys = {role: f"{role}-key-0123456789" for role in ("owner", "reviewer", "reader")}
    listed = ",".join(f"{role}:{role}:{key}" for role, key in keys.items())
    with running_app(tmp_path, api_keys=listed) as transport:
        client = httpx.Client(transport=transport, base_url="http://localhost", auth=("owner", keys["owner"]))
        client.put("/runs/mail", json={"class_names": CLASS_NAMES}).raise_for_status()
        batch = {"logits": [[1.0, 0.0, 0.0]], "targets": [0], "ids": ["a"]}
        client.put("/runs/mail/epochs/0/batches/b", json=batch).raise_for_status()
        event = event_of("a", [choice("ham")])
        statuses = {
            role: client.post("/runs/mail/label-studio/webhook", json=event, auth=("label-studio", key)).status_code
            for role, key in {**keys, "nobody": "another-key-0123456789"}.items()
        }
        assert statuses == {"owner": 201, "reviewer": 200, "reader": 403, "nobody": 401}
        # The annotator, not the key, is the reviewer.
        assert [one["reviewer"] for one in client.get("/runs/mail/reviews").json()["reviews"]] == ["label-studio:1"]
