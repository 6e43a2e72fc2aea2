"""Several people in one queue over HTTP: hidden verdicts and suggestions, gold rows, leases and roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.services import ClientWith

KEYS = {
    "own": ("boss", "owner", "boss-key-0123456789"),
    "kim": ("kim", "reviewer", "kim-key-0123456789ab"),
    "lee": ("lee", "reviewer", "lee-key-0123456789ab"),
    "eve": ("eve", "reader", "eve-key-0123456789ab"),
}
RUN, CLASSES = "/runs/people", 3


class Person:
    """A caller with a key."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client, self._headers = client, {"Authorization": f"Bearer {key}"}

    def send(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        reply = self._client.request(method, f"{RUN}{path}", headers=self._headers, **options)
        assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    def get(self, path: str) -> httpx.Response:
        return self._client.get(f"{RUN}{path}", headers=self._headers).raise_for_status()

    def queue(self, name: str = "q", **query: Any) -> dict[str, Any]:
        found = self.send("GET", f"/queues/{name}", params=query)
        return {"rows": {row["id"]: row for row in found["rows"]}, **{k: v for k, v in found.items() if k != "rows"}}

    def judge(self, identity: str, verdict: str | None = "ok", status: int = 201, **members: Any) -> Any:
        review = {"id": identity, "verdict": verdict, "queue": "q", **members}
        return self.send("POST", "/reviews", status, json=[review])


@pytest.fixture
def people(client_with: ClientWith) -> Iterator[dict[str, Person]]:
    """The people, and a new run of thirty examples; those of class 0 are suspicious."""
    client = client_with(api_keys=",".join(":".join(key) for key in KEYS.values()))
    people = {name: Person(client, key) for name, (_, _, key) in KEYS.items()}
    people["own"].send("PUT", "", 201, json={})
    logits = [[0.1 * row, 1.0, 0.5] for row in range(30)]
    batch = {
        "logits": logits,
        "targets": [row % CLASSES for row in range(30)],
        "ids": [f"e{row:02}" for row in range(30)],
    }
    people["own"].send("PUT", "/epochs/0/batches/b", 201, json=batch)
    yield people
    people["own"].send("DELETE", "", 204)


def new_queue(people: dict[str, Person], **members: Any) -> list[str]:
    """Create the queue q, and return its ids."""
    request = {"name": "q", "strategy": "top_loss", "budget": 6, **members}
    return [row["id"] for row in people["own"].send("POST", "/queues", 201, json=request)["rows"]]


def verdicts_elsewhere(person: Person, identity: str) -> tuple[Any, ...]:
    """The verdicts on an example outside of the queue that a person sees."""
    listed = {row["id"]: row["verdict"] for row in person.send("GET", "/examples", params={"limit": 30})["rows"]}
    reviews = [review["reviewer"] for review in person.send("GET", "/reviews")["reviews"] if review["id"] == identity]
    of_example = [review["reviewer"] for review in person.send("GET", f"/examples/{identity}")["reviews"]]
    exported = person._client.get(f"{RUN}/export?format=csv&queue=q", headers=person._headers).text
    return listed[identity], reviews, of_example, f"{identity},ok" in exported or ",ok," in exported


def test_in_a_blind_queue_no_verdict_is_seen_before_the_own_one(people: dict[str, Person]) -> None:
    first, second, *_ = new_queue(people, overlap=2, blind=True)
    kim, lee, own = people["kim"], people["lee"], people["own"]
    kim.judge(first, "ok", comment="a secret")
    for other in (lee, people["eve"], own):
        row = other.queue()["rows"][first]
        assert (row["verdict"], row["review"], row["reviews"], row["done"]) == (None, None, [], False)
        assert first not in other.queue(verdict="ok")["rows"]
        assert first in other.queue(verdict="open")["rows"]
    assert kim.queue()["rows"][first]["reviews"][0]["comment"] == "a secret"
    assert verdicts_elsewhere(kim, first)[:3] == ("ok", ["kim"], ["kim"])
    assert verdicts_elsewhere(lee, first) == (None, [], [], False)
    # `expected` speaks of what the caller may see; the error does not tell more.
    conflict = lee.judge(first, "wrong", 409, expected="something")
    assert conflict["current"] is None
    assert "kim" not in conflict["detail"]
    lee.judge(first, "wrong", expected=None)
    for judge in (kim, lee):
        row = judge.queue(verdict="conflict")["rows"][first]
        assert ([review["reviewer"] for review in row["reviews"]], row["done"]) == (["kim", "lee"], True)
        judge.judge(first, "ok", 409, expected=None)
    # The owner settles rows that are done; readers see nothing.
    assert own.queue()["rows"][first]["verdict"] == "conflict"
    assert people["eve"].queue()["rows"][first]["verdict"] is None
    assert [one["id"] for one in own.send("GET", "/agreement")["conflicts"]] == [first]
    assert people["eve"].send("GET", "/agreement")["conflicts"] == []
    counts = own.queue()
    assert (counts["num_conflict"], counts["num_done"], counts["num_reviewed"]) == (1, 1, 1)
    # Who withdraws his verdict does not see the others' any more.
    lee.judge(first, None)
    assert lee.queue()["rows"][first]["reviews"] == []
    lee.judge(first, "ok", expected=None)
    assert second in people["kim"].queue(verdict="open")["rows"]


def test_a_reviewer_without_a_key_of_his_own_names_himself(client: httpx.Client) -> None:
    client.put("/runs/names", json={})
    batch = {"logits": [[0, 1], [1, 0]], "targets": [0, 0], "ids": ["a", "b"]}
    client.put("/runs/names/epochs/0/batches/b", json=batch)
    client.post("/runs/names/queues", json={"name": "q", "strategy": "top_loss", "overlap": 2, "blind": True})
    client.post("/runs/names/reviews?reviewer=kim", json=[{"id": "a", "verdict": "ok", "queue": "q"}])
    seen = {
        name: [row["verdict"] for row in client.get("/runs/names/queues/q", params=query).json()["rows"]]
        for name, query in {"nobody": {}, "kim": {"reviewer": "kim"}, "lee": {"reviewer": "lee"}}.items()
    }
    assert seen == {"nobody": [None, None], "kim": ["ok", None], "lee": [None, None]}


@pytest.mark.parametrize("policy", ["reviewed", "consensus"])
def test_corrected_data_follow_from_the_verdicts_that_the_caller_may_see(
    people: dict[str, Person], policy: str
) -> None:
    first, second, *_ = new_queue(people, overlap=2, blind=True)
    kim, lee, own, eve = (people[name] for name in ("kim", "lee", "own", "eve"))

    def statuses(person: Person) -> list[str]:
        reply = person.get(f"/corrected?policy={policy}")
        rows = {row["id"]: row["status"] for row in map(json.loads, reply.text.splitlines())}
        digests.append(reply.headers["focal-loss-digest"])
        return [rows[first], rows[second]]

    digests: list[str] = []
    kim.judge(first, "exclude")
    lee.judge(second, "exclude")
    expected = (kim, ["excluded", "unreviewed"]), (lee, ["unreviewed", "excluded"]), (eve, ["unreviewed"] * 2)
    for person, seen in (*expected, (own, ["excluded"] * 2)):
        assert statuses(person) == seen
    assert len(set(digests)) == 4


def test_a_suggestion_is_hidden_until_the_own_verdict_and_the_review_says_so(people: dict[str, Person]) -> None:
    ids = new_queue(people, without_suggestion=0.5, budget=20, overlap=2)
    kim, lee = people["kim"], people["lee"]
    rows = kim.queue()["rows"]
    hidden = [identity for identity in ids if rows[identity]["suggestion"] == "hidden"]
    shown = [identity for identity in ids if rows[identity]["suggested"] is not None]
    assert 3 < len(hidden) < 17
    members = ("prediction", "suggested", "suggested_p")
    assert {rows[identity][name] for identity in hidden for name in members} == {None}
    assert {rows[identity]["reason"] for identity in hidden} == {
        "The suggestion of the model is hidden until your verdict."
    }
    assert shown
    assert not set(shown) & set(hidden)
    assert not set(kim.queue(prediction=["0", "1", "2"])["rows"]) & set(hidden)
    kim.judge(hidden[0], "ok")
    kim.judge(shown[0], "wrong", label=rows[shown[0]]["suggested"])
    kim.judge(hidden[0], "wrong")
    kim.judge("e29" if "e29" not in ids else next(f"e{n:02}" for n in range(30) if f"e{n:02}" not in ids))
    history = kim.send("GET", "/reviews", params={"history": "true"})["reviews"]
    assert [review.get("suggestion") for review in history] == ["hidden", "shown", "shown", None]
    assert kim.queue()["rows"][hidden[0]]["prediction"] is not None
    assert lee.queue()["rows"][hidden[0]]["prediction"] is None


def test_gold_rows_look_like_any_other_row(people: dict[str, Person]) -> None:
    own, kim = people["own"], people["kim"]
    known = [f"e{row:02}" for row in range(0, 30, 3)]
    own.send("POST", "/reviews", 201, json=[{"id": one, "verdict": "ok", "adjudicate": True} for one in known])
    ids = new_queue(people, gold=0.4, budget=10)
    planted = set(ids) & set(known)
    assert len(planted) == 4
    rows = kim.queue()["rows"]
    for identity in planted:
        row = rows[identity]
        assert (row["verdict"], row["review"], row["reviews"], row["done"]) == (None, None, [], False)
    assert {frozenset(row) for row in rows.values()} == {frozenset(rows[ids[0]])}
    assert verdicts_elsewhere(kim, min(planted))[:3] == (None, [], [])
    assert verdicts_elsewhere(own, min(planted))[:3] == ("ok", ["boss"], ["boss"])
    kim.judge(min(planted), "wrong", expected=None)
    row = kim.queue()["rows"][min(planted)]
    assert (row["verdict"], row["done"], len(row["reviews"])) == ("wrong", True, 1)
    # The adjudication still counts outside of the queue.
    assert own.send("GET", f"/examples/{min(planted)}")["reviews"][0]["verdict"] == "ok"
    assert own.send("GET", "/reviews")["num_wrong"] == 0
    (summary,) = (one for one in own.send("GET", "/agreement")["reviewers"] if one["reviewer"] == "kim")
    assert summary["gold"] == {"rows": 1, "hits": 0, "share": 0.0}
    # A count that rises would tell which row is a gold row.
    assert {one["gold"] for one in kim.send("GET", "/agreement")["reviewers"]} == {None}


def test_two_reviewers_never_get_the_same_row(people: dict[str, Person]) -> None:
    ids = new_queue(people)
    first = people["kim"].send("POST", "/queues/q/next?limit=2")
    second = people["lee"].send("POST", "/queues/q/next?limit=3&reviewer=kim")
    assert [row["id"] for row in first["rows"]] == ids[:2]
    assert [row["id"] for row in second["rows"]] == ids[2:5]
    assert (second["reviewer"], second["num_free"], second["num_left"]) == ("lee", 1, 6)
    assert first["leased_until"] > people["own"].queue()["created_at"]
    people["kim"].judge(ids[0])
    assert [row["id"] for row in people["kim"].send("POST", "/queues/q/next?limit=2")["rows"]] == [ids[1], ids[5]]
    people["lee"].send("DELETE", "/queues/q/next", 204)
    assert [row["id"] for row in people["own"].send("POST", "/queues/q/next")["rows"]] == ids[2:5]
    empty = people["lee"].send("POST", "/queues/q/next")
    assert (empty["rows"], empty["leased_until"], empty["num_left"]) == ([], None, 5)
    assert people["eve"].send("POST", "/queues/q/next", 403)["code"] == "forbidden"
    assert people["kim"].send("POST", "/queues/none/next", 404)["code"] == "unknown_queue"
