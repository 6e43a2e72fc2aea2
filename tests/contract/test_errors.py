"""Contract sections 2 and 6: every kind of bad request has its own code, and all errors have one format."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from service.codecs.base import MAX_BATCHES
from service.codecs.tables.csv import MAX_COLUMNS
from service.formats.attributes import MAX_ATTRIBUTES
from service.schema.request import OUTPUTS

SAFETENSORS = {"Content-Type": "application/x-safetensors"}
ROWS = {"logits": [[1, 2], [3, 4]], "targets": [0, 1]}


def check_problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The reply is a problem of this kind, with every member the contract names."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["type"].endswith(code)
    assert problem["title"]
    assert problem["detail"]
    assert reply.headers["x-request-id"]
    if status == 422:
        for error in problem.get("errors", []):
            assert set(error) == {"loc", "msg"}
    return problem


@pytest.mark.parametrize(
    ("body", "code", "loc", "says"),
    [
        # logits
        ({"logits": [[1, 2], [3, None]], "targets": [0, 1]}, "invalid_logit", ["batches", 0, "logits", 1, 1], "null"),
        ({"logits": [[1, 2], [3, "4"]], "targets": [0, 1]}, "invalid_logit", ["batches", 0, "logits", 1, 1], '"4"'),
        ({"logits": [[1, 2], [3, True]], "targets": [0, 1]}, "invalid_logit", ["batches", 0, "logits", 1, 1], "true"),
        ({"logits": [[1, 2], [3, [4]]], "targets": [0, 1]}, "invalid_logit", ["batches", 0, "logits", 1, 1], "list"),
        # targets
        (ROWS | {"targets": [0, 2]}, "invalid_target", ["batches", 0, "targets", 1], "target 2 is outside [0, 2)"),
        (ROWS | {"targets": [-1, 0]}, "invalid_target", ["batches", 0, "targets", 0], "target -1"),
        (ROWS | {"targets": [0, 1.5]}, "invalid_target", ["batches", 0, "targets", 1], "1.5"),
        (ROWS | {"targets": [0, None]}, "invalid_target", ["batches", 0, "targets", 1], "null"),
        (ROWS | {"config": {"ignore_index": None}, "targets": [0, -100]}, "invalid_target", None, "-100"),
        (
            {"config": {"mode": "sigmoid"}, "logits": [[1, 2]], "targets": [[1, 2]]},
            "invalid_target",
            ["batches", 0, "targets", 0, 1],
            "target 2",
        ),
        # shapes
        (ROWS | {"logits": [[1, 2], [3]]}, "invalid_shape", ["batches", 0, "logits", 1], "row 1"),
        (ROWS | {"targets": [0]}, "invalid_shape", ["batches", 0, "targets"], "1 targets for 2 rows"),
        (ROWS | {"ids": ["a"]}, "invalid_shape", ["batches", 0, "ids"], "1 ids for 2 rows"),
        ({"logits": [[1], [2]], "targets": [0, 0]}, "invalid_shape", ["batches", 0, "logits"], "at least 2 classes"),
        ({"logits": [1, 2], "targets": [0, 0]}, "invalid_shape", ["batches", 0, "logits"], "(N, C)"),
        (ROWS | {"config": {"alpha": [1, 2, 3]}}, "invalid_shape", ["batches", 0, "logits"], "3 weights"),
        (ROWS | {"config": {"mode": "sigmoid"}}, "invalid_shape", ["batches", 0, "targets"], "[2, 2]"),
        ({"logits": [[1, 2, 3]], "targets": [0], "config": {"alpha": 0.5}}, "invalid_shape", None, "2 weights"),
        # ids
        (ROWS | {"ids": ["a", "a"]}, "invalid_ids", ["batches", 0, "ids", 1], "'a'"),
        (ROWS | {"ids": ["a", 1.5]}, "invalid_ids", ["batches", 0, "ids", 1], "1.5"),
        (ROWS | {"ids": "ab"}, "invalid_ids", ["batches", 0, "ids"], "list"),
        # fields
        (ROWS | {"logit": 1}, "invalid_request", ["logit"], "unknown field 'logit'"),
        ({"targets": [0]}, "invalid_request", ["logits"], "logits missing"),
        ({"logits": [[1, 2]]}, "invalid_request", ["targets"], "targets missing"),
        (ROWS | {"batches": []}, "invalid_request", None, "not both"),
        ({"batches": [ROWS | {"config": {}}]}, "invalid_request", ["batches", 0, "config"], "unknown field 'config'"),
        ({"batches": [1]}, "invalid_request", ["batches", 0], "object"),
        (ROWS | {"top_k": -1}, "invalid_request", ["top_k"], "-1"),
        (ROWS | {"top_k": "3"}, "invalid_request", ["top_k"], "3"),
        (ROWS | {"on_invalid": "drop"}, "invalid_request", ["on_invalid"], "drop"),
        (ROWS | {"config": {}, "config_id": "fl_0"}, "invalid_request", ["config_id"], "not both"),
        (ROWS | {"outputs": ["loss", "margin"]}, "unknown_output", ["outputs", 1], "margin"),
        (ROWS | {"config": {"gama": 2}}, "invalid_config", ["config", "gama"], "gama"),
        (ROWS | {"config": {"gamma": -0.5}}, "invalid_config", ["config", "gamma"], "-0.5"),
    ],
)
def test_invalid_json_requests_name_place_and_value(
    client: httpx.Client, body: dict[str, Any], code: str, loc: list[Any] | None, says: str
) -> None:
    problem = check_problem(client.post("/loss", json=body), 422, code)
    assert says in problem["detail"]
    if loc is not None:
        assert loc in [error["loc"] for error in problem["errors"]]


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize(
    ("value", "spelled"), [(np.nan, "NaN"), (np.inf, "+inf"), (-np.inf, "-inf on the target")], ids=str
)
def test_bad_logits_in_any_batch_are_named(client: httpx.Client, number: int, value: float, spelled: str) -> None:
    tensors = {}
    for batch in range(5):
        logits = np.zeros((30, 4), np.float32)
        if batch == number:
            logits[17, 2] = value
        tensors |= {f"logits.{batch}": logits, f"targets.{batch}": np.full(30, 2)}
    problem = check_problem(client.post("/loss", content=save(tensors), headers=SAFETENSORS), 422, "invalid_logit")
    assert problem["detail"].startswith(f"batch {number}, row 17, column 2: logit {spelled}")
    assert problem["errors"][0]["loc"] == ["batches", number, "logits", 17, 2]


def test_many_bad_rows_are_counted_and_the_first_are_named(client: httpx.Client) -> None:
    logits = np.full((500, 3), np.nan, np.float32)
    body = save({"logits": logits, "targets": np.zeros(500, np.int64)})
    problem = check_problem(client.post("/loss", content=body, headers=SAFETENSORS), 422, "invalid_logit")
    assert "499 more" in problem["detail"]
    rows = {error["loc"][3] for error in problem["errors"]}
    assert rows == set(range(20))


def test_a_difference_of_logits_beyond_float64_is_named(client: httpx.Client) -> None:
    body = {"logits": [[0.0, 1.0], [1.7e308, -1.7e308]], "targets": [0, 1]}
    problem = check_problem(client.post("/loss", json=body), 422, "invalid_logit")
    assert "batch 0, row 1, column 1" in problem["detail"]


def test_a_long_list_of_faults_gives_a_short_error(client: httpx.Client) -> None:
    faults: list[dict[str, Any]] = [
        {"config": {"alpha": ["x"] * 100_000}},
        {"config": {"alpha": {"class_counts": ["x"] * 100_000}}},
        {"outputs": [1] * 100_000},
    ]
    for fault in faults:
        reply = client.post("/loss", json=ROWS | fault)
        assert reply.status_code == 422
        assert len(reply.content) < 10_000
    assert len(client.put("/configs", json={"alpha": ["x"] * 100_000}).content) < 10_000


def test_errors_of_shape_stay_errors_where_bad_rows_are_excluded(client: httpx.Client) -> None:
    body = {"on_invalid": "exclude", "logits": [[1, 2], [3]], "targets": [0, 1]}
    check_problem(client.post("/loss", json=body), 422, "invalid_shape")


def test_an_unknown_output_lists_the_known_ones(client: httpx.Client) -> None:
    problem = check_problem(client.post("/loss", json=ROWS | {"outputs": ["margin"]}), 422, "unknown_output")
    for name in OUTPUTS:
        assert name in problem["detail"]
    check_problem(client.post("/loss", params={"outputs": "margin"}, json=ROWS), 422, "unknown_output")


@pytest.mark.parametrize("params", [{"top_k": "many"}, {"top_k": "-1"}, {"gamma": "2"}])
def test_bad_query_parameters_are_named(client: httpx.Client, params: dict[str, str]) -> None:
    problem = check_problem(client.post("/loss", params=params, json=ROWS), 422, "invalid_request")
    assert next(iter(params)) in str(problem["errors"])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nonsense", b'{"logits": [[1, NaN]], "targets": [0]}', b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x'],
)
def test_what_is_not_json_is_400(client: httpx.Client, content: bytes) -> None:
    reply = client.post("/loss", content=content, headers={"Content-Type": "application/json"})
    check_problem(reply, 400, "malformed_body")


def test_a_twice_given_field_is_400(client: httpx.Client) -> None:
    content = b'{"logits": [[1, 2]], "targets": [0], "targets": [1]}'
    reply = client.post("/loss", content=content, headers={"Content-Type": "application/json"})
    assert "targets" in check_problem(reply, 400, "malformed_body")["detail"]


def test_what_is_not_safetensors_is_400(client: httpx.Client) -> None:
    good = save({"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64)})
    for content in (
        b"",
        good[:7],
        good[:50],
        good[:-1],
        good + b"\0",
        b"\xff" * 8 + good[8:],
        good[:8] + b"[" + good[9:],
    ):
        check_problem(client.post("/loss", content=content, headers=SAFETENSORS), 400, "malformed_body")


@pytest.mark.parametrize(
    ("tensors", "request_fields", "code"),
    [
        ({"logits": np.zeros((2, 3), np.float32)}, {}, "invalid_request"),
        ({"logits": np.zeros((2, 3), bool), "targets": np.zeros(2, np.int64)}, {}, "invalid_logit"),
        ({"logits": np.zeros((2, 3), np.float32), "targets": np.full(2, 0.5, np.float32)}, {}, "invalid_target"),
        ({"logits": np.zeros((2, 3, 4), np.float32), "targets": np.zeros(2, np.int64)}, {}, "invalid_shape"),
        ({"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(3, np.int64)}, {}, "invalid_shape"),
        ({"logits": np.zeros((2, 3), np.float32), "classes": np.zeros(2, np.int64)}, {}, "invalid_request"),
        ({"logits.1": np.zeros((2, 3), np.float32), "targets.1": np.zeros(2, np.int64)}, {}, "invalid_request"),
        (
            {"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64), "ids": np.array([4, 4])},
            {},
            "invalid_ids",
        ),
        ({"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64)}, {"top": 1}, "invalid_request"),
        ({"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64)}, [], "invalid_request"),
    ],
)
def test_invalid_safetensors_requests_are_422(
    client: httpx.Client, tensors: dict[str, Any], request_fields: Any, code: str
) -> None:
    body = save(tensors, {"request": json.dumps(request_fields)})
    check_problem(client.post("/loss", content=body, headers=SAFETENSORS), 422, code)


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "text/plain", "application/x-www-form-urlencoded", "a/b; c=d", ""]
)
def test_unknown_media_types_are_415_and_list_the_known(client: httpx.Client, content_type: str) -> None:
    body = save({"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64)})
    problem = check_problem(
        client.post("/loss", content=body, headers={"Content-Type": content_type}), 415, "unsupported_media_type"
    )
    assert "application/json" in problem["detail"]
    assert "application/x-safetensors" in problem["detail"]


def test_media_type_parameters_and_case_do_not_matter(client: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/loss", content=json.dumps(ROWS), headers=headers).status_code == 200


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0, text/*"])
def test_no_acceptable_reply_is_406(client: httpx.Client, accept: str) -> None:
    check_problem(client.post("/loss", json=ROWS, headers={"Accept": accept}), 406, "not_acceptable")


def test_the_frameworks_own_errors_have_the_same_shape(client: httpx.Client) -> None:
    check_problem(client.get("/nowhere"), 404, "not_found")
    problem = check_problem(client.get("/loss"), 405, "method_not_allowed")
    assert "GET" in problem["detail"]
    check_problem(client.post("/loss", json=ROWS | {"config_id": "fl_0123456789abcdef"}), 404, "unknown_config")


def test_request_ids_are_kept_where_they_are_sane(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "job-7.a_B"}).headers["x-request-id"] == "job-7.a_B"
    for insane in (b"a b", b"x" * 200, "ü".encode(), b"a\tb"):
        reply = client.get("/healthz", headers={"X-Request-ID": insane})
        assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["x-request-id"])
    replies = [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
    assert replies[0] != replies[1]


def test_requests_of_too_many_parts_are_413(client: httpx.Client) -> None:
    batches = client.post("/loss", json={"batches": [ROWS] * (MAX_BATCHES + 1)})
    assert str(MAX_BATCHES) in check_problem(batches, 413, "too_many_batches")["detail"]
    header = ",".join(["label", *(f"logit_{number}" for number in range(MAX_COLUMNS))])
    table = f"{header}\n0{',0' * MAX_COLUMNS}\n"
    columns = client.post("/loss", content=table, headers={"Content-Type": "text/csv"})
    assert str(MAX_COLUMNS) in check_problem(columns, 413, "too_many_columns")["detail"]
    client.put("/runs/many", json={}).raise_for_status()
    rows = ROWS | {"ids": ["a", "b"], "attributes": {f"x{number}": [1, 2] for number in range(MAX_ATTRIBUTES + 1)}}
    attributes = client.put("/runs/many/epochs/0/batches/b", json=rows)
    assert str(MAX_ATTRIBUTES) in check_problem(attributes, 413, "too_many_attributes")["detail"]
    assert client.get("/runs/many").json()["num_rows"] == 0
