"""Class names wherever a class is: filters, conditions and quotas of queues, reviews."""

from __future__ import annotations

import httpx
import pytest

from tests.lanes import mostly_slow

# Names that are numbers of other classes, have commas and spaces, and are much like another.
NAMES = ["1", "0", "great white, shark", "tabby cat", "tabby cap"]
ROWS = [0, 1, 2, 3, 4, 2]


@pytest.fixture
def run(client: httpx.Client) -> str:
    path = "/runs/class-names"
    assert client.put(path, json={"class_names": NAMES}).is_success
    logits = [[float(column == row) for column in range(5)] for row in ROWS]
    body = {"logits": logits, "targets": ROWS, "ids": [f"e{number}" for number in range(len(ROWS))]}
    assert client.put(f"{path}/epochs/0/batches/b", json=body).is_success
    queue = {"name": "q", "strategy": "random", "budget": 6, "exclude_reviewed": False}
    assert client.post(f"{path}/queues", json=queue).is_success
    return path


@pytest.mark.parametrize(
    ("labels", "classes"),
    mostly_slow(
        [
            (["1"], {0}),  # a name, not a number
            (["0"], {1}),
            (["2"], {2}),  # no name: a number
            (["great white, shark"], {2}),
            ([" tabby cat "], {3}),
            (["great white, shark", "0"], {1, 2}),
            (["tabby cat", "tabby cap", "4"], {3, 4}),
        ],
        quick=4,
    ),
)
@pytest.mark.parametrize("column", mostly_slow(["prediction", "target"], quick=1))
def test_filters_by_name_or_number(
    client: httpx.Client, run: str, column: str, labels: list[str], classes: set[int]
) -> None:
    for part in ("examples", "queues/q"):
        reply = client.get(f"{run}/{part}", params={column: labels, "limit": 100})
        assert {row["target"] for row in reply.json()["rows"]} == classes
    if len(labels) == 1:
        queue = {"strategy": "random", "budget": 6, "only": {column: labels[0]}}
        rows = client.post(f"{run}/queues?preview=true", json=queue).json()["rows"]
        assert {row["target"] for row in rows} == classes


def test_a_page_leads_to_the_next_one_with_all_of_its_classes(client: httpx.Client, run: str) -> None:
    reply = client.get(f"{run}/examples", params={"target": NAMES[2:4], "limit": 2})
    following = client.get(reply.links["next"]["url"]).json()
    assert {row["target"] for row in [*reply.json()["rows"], *following["rows"]]} == {2, 3}
    assert following["next_cursor"] is None


def test_an_integer_is_a_number_where_json_has_one(client: httpx.Client, run: str) -> None:
    queue = {"strategy": "random", "budget": 6, "only": {"target": 1}}
    assert {row["target"] for row in client.post(f"{run}/queues?preview=true", json=queue).json()["rows"]} == {1}


def test_quotas_by_name(client: httpx.Client, run: str) -> None:
    queue = {"name": "quotas", "strategy": "top_loss", "per_class": {"1": 1, "great white, shark": 2, "4": 1}}
    reply = client.post(f"{run}/queues", json=queue).json()
    assert sorted(row["target"] for row in reply["rows"]) == [0, 2, 2, 4]
    # The stored request has the numbers, so another spelling is the same request.
    assert reply["request"]["per_class"] == {"0": 1, "2": 2, "4": 1}
    again = client.post(f"{run}/queues", json=queue | {"per_class": {"1": 1, "2": 2, "tabby cap": 1}})
    assert again.status_code == 200


def test_a_review_by_name(client: httpx.Client, run: str) -> None:
    reviews = [{"id": "e0", "verdict": "wrong", "label": label} for label in ("0", 0, "great white, shark", "3")]
    assert client.post(f"{run}/reviews", json=reviews).status_code == 201
    stored = client.get(f"{run}/reviews?history=true").json()["reviews"][-4:]
    assert [review["label"] for review in stored] == [1, 0, 2, 3]


def test_an_unknown_name_is_named_with_the_closest(client: httpx.Client, run: str) -> None:
    only = {"strategy": "random", "only": {"prediction": "tabby cut"}}
    quotas = {"strategy": "random", "per_class": {"tabby cut": 1}}
    review = [{"id": "e0", "verdict": "wrong", "label": "tabby cut"}]
    for reply, place in [
        (client.get(f"{run}/examples?target=tabby cut"), ["query", "target"]),
        (client.get(f"{run}/queues/q?suggested=tabby cut"), ["query", "suggested"]),
        (client.post(f"{run}/queues", json=only), ["only", "prediction"]),
        (client.post(f"{run}/queues", json=quotas), ["per_class", "tabby cut"]),
        (client.post(f"{run}/reviews", json=review), [0, "label"]),
    ]:
        assert reply.status_code == 422
        (item,) = reply.json()["errors"]
        assert item["loc"] == place
        assert "'tabby cut'" in item["msg"]
        assert "'tabby cat'" in item["msg"]


def test_a_class_twice_in_the_quotas_is_an_error(client: httpx.Client, run: str) -> None:
    quotas = {"strategy": "random", "per_class": {"tabby cat": 1, "3": 1}}
    reply = client.post(f"{run}/queues", json=quotas)
    assert reply.status_code == 422
    assert "class 3 twice" in reply.json()["detail"]
