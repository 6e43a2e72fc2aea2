"""Bounds of numbers and lists in requests: what is larger is a 422 that names the bound, and never a 500."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.testclient import TestClient

from service.api import queries
from service.api.app import create_app
from service.api.http.query_types import QueryModel, integer_of
from service.settings import Settings
from tests.lanes import mostly_slow

ZEROS = "0" * 20
# Texts of digits, and their value up to 10^19.
DIGITS = {
    "0": 0,
    "007": 7,
    ZEROS + "1": 1,
    "0" * 5000: 0,
    "0" * 5000 + "5": 5,
    "9" * 19: 10**19 - 1,
    "9" * 20: None,
    ZEROS + "1" + "9" * 9: 1_999_999_999,
    ZEROS + "9" * 30: None,
    "1" + "0" * 60_000: None,
}
LISTS = {"alpha": "1", "fields": "loss", "sort": "loss", "ranks": "1"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(device="cpu", data_dir=str(tmp_path_factory.mktemp("bounds")))
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        client.put("/runs/r", json={})
        client.put("/runs/r/epochs/0/batches/b", json={"logits": [[0, 1]], "targets": [1], "ids": ["a"]})
        client.post("/runs/r/queues", json={"name": "q", "strategy": "random"})
        yield client


@pytest.mark.parametrize("text", DIGITS, ids=lambda text: f"{text[:8]} and {len(text)} digits")
def test_a_text_of_digits_is_read_whole(text: str) -> None:
    assert integer_of(text) == DIGITS[text]


@pytest.mark.parametrize("text", ["", "+1", "-1", "1.0", "1e3", " 1", "1_0", "\u0661", "\u00b2", "x"])
def test_another_text_is_no_integer(text: str) -> None:
    assert integer_of(text) is None


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (queries.WhatIfQuery, {"alpha": "1," * 29_999 + "1"}),
        (queries.WhatIfQuery, {"alpha": ",".join([" .5e1 "] * 8_000)}),
        (queries.QueueQuery, {"ranks": ",".join(["1"] * 10_000)}),
    ],
)
def test_a_long_list_takes_little_memory(query: type[QueryModel], text: dict[str, str]) -> None:
    tracemalloc.start()
    try:
        query.model_validate(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("text", DIGITS, ids=lambda text: f"{text[:8]} and {len(text)} digits")
@pytest.mark.parametrize(
    ("path", "most"),
    mostly_slow(
        [
            ("examples?limit=", 100_000),
            ("examples?epoch=", 0),
            ("dynamics?first=", 2**31),
            ("dynamics?offset=", 2**31),
            ("dynamics?bins=", 200),
            ("compare/r?top=", 2**31),
            ("queues/q?offset=", 2**31),
            ("queues/q?around=", 2**31),
            ("queues/q?ranks=1,", 2**31),
            ("export/preview?rows=", 20),
        ],
        quick=3,
    ),
)
def test_a_number_in_a_query_is_used_whole_or_refused(client: TestClient, path: str, text: str, most: int) -> None:
    value = DIGITS[text]
    reply = client.get(f"/runs/r/{path}{text}")
    if value is None or value > most:
        assert reply.status_code in (404, 422)
    elif value or "epoch" in path or "offset" in path or "around" in path or "ranks" in path:
        assert reply.status_code == 200, reply.text
    assert reply.status_code < 500


@pytest.mark.parametrize("text", DIGITS, ids=lambda text: f"{text[:8]} and {len(text)} digits")
def test_a_number_in_a_path_is_used_whole_or_refused(client: TestClient, text: str) -> None:
    body = {"logits": [[0, 1]], "targets": [1], "ids": ["a"]}
    reply = client.put(f"/runs/r/epochs/{text}/batches/b", json=body)
    value = DIGITS[text]
    assert reply.status_code in ((200, 201) if value is not None and value < 2**31 else (422,))
    if reply.status_code == 201:
        assert value in [epoch["epoch"] for epoch in client.get("/runs/r").json()["epochs"]]


@pytest.mark.parametrize("gamma", mostly_slow(["-0.0", "-0", "-0e9", "-.0"], quick=1))
@pytest.mark.parametrize("path", ["examples", "examples/a", "diagnostics", "dynamics", "compare/r", "export"])
def test_a_zero_with_a_sign_is_zero(client: TestClient, path: str, gamma: str) -> None:
    reply, expected = (client.get(f"/runs/r/{path}?gamma={text}&alpha={text},1") for text in (gamma, "0"))
    assert reply.status_code == 200
    assert reply.content == expected.content


def test_a_queue_and_a_run_with_a_zero_with_a_sign(client: TestClient) -> None:
    assert client.post("/runs/r/queues?gamma=-0&preview=true", json={"strategy": "top_share"}).status_code == 200
    assert client.put("/runs/zero", json={"config": {"gamma": -0.0, "alpha": [-0.0, 1.0]}}).status_code == 201
    body = {"logits": [[0, 1]], "targets": [1], "ids": ["a"]}
    assert client.put("/runs/zero/epochs/0/batches/b", json=body).status_code == 201
    for path in ("examples", "diagnostics", "dynamics", "export"):
        assert client.get(f"/runs/zero/{path}").status_code == 200


def query_models() -> list[type[QueryModel]]:
    return [model for model in vars(queries).values() if isinstance(model, type) and issubclass(model, QueryModel)]


def test_every_list_in_a_query_has_a_bound() -> None:
    """A parameter that takes a long text with commas is either no list, or it has a bound."""
    single = {"cursor", "text", "from_name", "to_name", "data_key", "object_tag", "image_key", "image_root", "queue"}
    single |= {"control", "dataset", "reviewer"}
    for model in query_models():
        for name, field in model.model_fields.items():
            if is_text(field.annotation) and name not in single:
                text = ",".join([LISTS[name]] * 31_000)
                assert "at most" in str(error_of(model, name, text)), f"{model.__name__}.{name}"


def is_text(annotation: Any) -> bool:
    kinds = get_args(annotation) or (annotation,)
    return str in kinds or any(get_origin(kind) is Annotated and get_args(kind)[0] is str for kind in kinds)


def error_of(model: type[QueryModel], name: str, text: str) -> Exception | None:
    try:
        query = model.model_validate({name: text})
        if name == "sort":
            queries.parse_order(text)
        assert query
    except Exception as err:
        return err
    return None


def test_sort_keys_and_filters_by_attribute_have_bounds(client: TestClient) -> None:
    for path in ("examples", "dynamics", "queues/q"):
        for sort, words in (("," * 8, "at most 8"), ("id,-id", "sort key id is repeated")):
            reply = client.get(f"/runs/r/{path}?sort={sort}")
            assert reply.status_code == 422
            assert words in reply.json()["detail"]
    for path in ("examples", "queues/q"):
        filters = [f"attribute.a{number}=x" for number in range(9)]
        assert client.get(f"/runs/r/{path}?{'&'.join(filters[:8])}").status_code == 200
        reply = client.get(f"/runs/r/{path}?{'&'.join(filters)}")
        assert reply.status_code == 422
        assert "at most 8 filters by attribute" in reply.json()["detail"]


def models() -> list[type[BaseModel]]:
    """All models of requests."""

    def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for child in model.__subclasses__():
            yield child
            yield from below(child)

    ours = {model for model in below(BaseModel) if model.__module__.startswith("service.")}
    return sorted(ours - {Settings}, key=lambda model: (model.__module__, model.__name__))


def unbounded(annotation: Any, metadata: list[Any]) -> Iterator[Any]:
    """The lists and dictionaries in a type that have no largest length."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = [*metadata, *annotation.__metadata__]
        parts = [part for item in inner for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        yield from unbounded(annotation.__origin__, parts)
        return
    is_tuple = origin is tuple and Ellipsis in arguments
    if (origin in (list, dict, set, frozenset) or is_tuple) and not any(
        hasattr(item, "max_length") for item in metadata
    ):
        yield annotation
    for argument in arguments:
        # The metadata of a union are those of its members.
        yield from unbounded(argument, metadata if origin not in (list, dict, tuple) else [])


def test_every_list_in_a_body_has_a_bound() -> None:
    found = [
        f"{model.__module__}.{model.__name__}.{name}"
        for model in models()
        if not issubclass(model, QueryModel)
        for name, field in model.model_fields.items()
        for _ in unbounded(field.annotation, field.metadata)
    ]
    # It has a bound in bytes.
    assert found == ["service.runs.manifest.RunDescription.display"]
