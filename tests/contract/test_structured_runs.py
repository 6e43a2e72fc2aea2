"""Runs of the tasks `multi_label`, `tokens` and `masks` over HTTP: storage, examples, what-if losses, units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.codecs.structured_forms import JSON, Array, Examples, Structured, bodies, json_body
from tests.lanes import mostly_slow

RNG = np.random.default_rng(2)
SCORES = ("cross_entropy", "p_t", "log_odds", "logit_margin", "normalized_margin", "entropy", "el2n")
OF_ELEMENTS = ("label_quality", "max_loss", "num_valid")


def examples(logits: tuple[int, ...], targets: Array, offsets: list[int] | None = None) -> Examples:
    """Examples of which the first one has an ignored element; float32 holds the logits."""
    targets = targets.copy()
    targets.flat[0] = -100
    number = logits[0] if offsets is None else len(offsets) - 1
    return Examples(
        {"logits": RNG.normal(size=logits).astype(np.float32), "targets": targets},
        None if offsets is None else np.array(offsets),
        [f"example {row}" for row in range(number)],
    )


ASYMMETRIC = {"mode": "sigmoid", "alpha": [0.25, 0.5, 0.75], "gamma": 1, "gamma_negative": 4, "clip": 0.05}
TASKS: dict[str, tuple[dict[str, Any], Structured]] = {
    "labels": (
        {"task": "multi_label", "config": ASYMMETRIC},
        Structured("rows", [examples((9, 3), RNG.integers(0, 2, (9, 3)))]),
    ),
    "tokens": (
        {"task": "tokens", "config": {"gamma": 1.5, "alpha": [0.5, 1, 2]}, "within": "max"},
        Structured("ragged", [examples((12, 3), RNG.integers(0, 3, 12), [0, 5, 6, 12])]),
    ),
    "masks": (
        {"task": "masks", "within": {"top_share": 0.3}},
        Structured("dense", [examples((4, 3, 6, 5), RNG.integers(0, 3, (4, 6, 5)))]),
    ),
    "binary masks": (
        {"task": "masks", "config": {"mode": "sigmoid", "alpha": 0.25}, "within": "sum"},
        Structured("dense", [examples((4, 6, 5), RNG.integers(0, 2, (4, 6, 5)))]),
    ),
}


@pytest.fixture(params=mostly_slow(TASKS, quick=2))
def case(request: pytest.FixtureRequest, client: httpx.Client) -> Iterator[tuple[str, dict[str, Any], Structured]]:
    """The address of a run, its description, and a batch for it."""
    description, sent = TASKS[request.param]
    assert client.put("/runs/structured", json=description).status_code == 201
    yield "/runs/structured", description, sent
    client.delete("/runs/structured")


def put(client: httpx.Client, run: str, body: bytes, kind: str = JSON, batch: str = "b") -> httpx.Response:
    return client.put(f"{run}/epochs/0/batches/{batch}", content=body, headers={"Content-Type": kind, "Accept": JSON})


def loss(client: httpx.Client, sent: Structured, **options: Any) -> Any:
    """The reply of `POST /loss` for a batch."""
    body = json_body(Structured(sent.layout, sent.batches, {**sent.options, **options}))
    reply = client.post("/loss", content=body, headers={"Content-Type": JSON})
    assert reply.status_code == 200, reply.text
    return reply.json()


def rows(client: httpx.Client, run: str, **query: Any) -> list[dict[str, Any]]:
    reply = client.get(f"{run}/examples", params={"sort": "id", **query})
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["rows"]
    return found


def test_the_description_is_returned(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, _ = case
    found = client.get(run).json()
    assert (found["task"], found["within"]) == (description["task"], description.get("within", "mean"))


def test_one_content_in_every_format(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, sent = case
    options = {"outputs": ["loss", "contribution", "regions"], "elements": ["loss", "prediction"], "top_k": 2}
    sent = Structured(sent.layout, sent.batches, options)
    expected = loss(client, sent, config=description.get("config", {}), within=description.get("within", "mean"))
    for number, (kind, body) in enumerate(bodies(sent)):
        reply = put(client, run, body, kind)
        assert reply.status_code == (200 if number else 201), (kind, reply.text)
        if not number:
            assert reply.json() == expected
    assert client.get(run).json()["num_rows"] == sent.batches[0].parts["targets"].shape[0] or sent.layout == "ragged"


@pytest.mark.parametrize("changed", ["targets", "logits", "ids"])
def test_other_content_is_a_conflict(
    client: httpx.Client, case: tuple[str, dict[str, Any], Structured], changed: str
) -> None:
    run, _, sent = case
    assert put(client, run, json_body(sent)).status_code == 201
    (batch,) = sent.batches
    parts = {name: values.copy() for name, values in batch.parts.items()}
    if changed == "ids":
        batch = batch._replace(ids=[*(batch.ids or ())[:-1], "another"])
    else:
        parts[changed].flat[-1] = float(parts[changed].flat[-1] == 0)
    other = json_body(Structured(sent.layout, [batch._replace(parts=parts)]))
    assert put(client, run, other).json()["code"] == "batch_conflict"


@pytest.mark.parametrize("gamma", [None, 0, 5])
def test_scores_and_what_if_losses_equal_those_of_loss(
    client: httpx.Client, case: tuple[str, dict[str, Any], Structured], gamma: float | None
) -> None:
    run, description, sent = case
    assert put(client, run, json_body(sent)).status_code == 201
    config = {**description.get("config", {}), **({} if gamma is None else {"gamma": gamma})}
    within = description.get("within", "mean")
    expected = loss(client, sent, config=config, within=within, outputs=["loss", *SCORES, *OF_ELEMENTS])
    columns = expected["batches"][0]["per_example"]
    found = rows(client, run, **({} if gamma is None else {"gamma": gamma}))
    for name, values in columns.items():
        assert [row[name] for row in found] == pytest.approx(values, rel=2e-6, abs=1e-7), name
    assert all(row["target"] is None and row["prediction"] is None for row in found)
    by_loss = [row["id"] for row in rows(client, run, sort="-loss", **({} if gamma is None else {"gamma": gamma}))]
    order = np.argsort(-np.array(columns["loss"]), kind="stable")
    assert by_loss == [(sent.batches[0].ids or ())[row] for row in order]


@pytest.mark.parametrize("gamma", [0, 2])
@pytest.mark.parametrize("within", ["mean", "max"])
def test_losses_of_extreme_logits(client: httpx.Client, gamma: float, within: str) -> None:
    config = {"mode": "sigmoid", "gamma": gamma, "gamma_negative": gamma / 2, "clip": 0.05}
    logits = np.array([[0.0, 1e-8], [40, -40], [800, -800], [1e30, -1e30], [-3e38, 3e38]], np.float32)
    batch = Examples({"logits": logits, "targets": np.array([[0, 1]] * 5)}, ids=list("abcde"))
    sent = Structured("rows", [batch])
    assert client.put("/runs/extreme", json={"task": "multi_label", "config": config, "within": within}).is_success
    try:
        assert put(client, "/runs/extreme", json_body(sent)).status_code == 201
        expected = loss(client, sent, config=config, within=within)["batches"][0]["per_example"]["loss"]
        assert [row["loss"] for row in rows(client, "/runs/extreme")] == pytest.approx(expected, rel=2e-6)
    finally:
        client.delete("/runs/extreme")


def test_alpha_of_a_query(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, sent = case
    assert put(client, run, json_body(sent)).status_code == 201
    weights = [0.1, 0.9, 0.4] if description["task"] == "multi_label" else [0.75, 0.25]
    if "mode" not in description.get("config", {}):
        weights = [3.0, 0.0, 1.0]
    config = {**description.get("config", {}), "alpha": 0.25 if weights == [0.75, 0.25] else weights}
    expected = loss(client, sent, config=config, within=description.get("within", "mean"))
    found = rows(client, run, alpha=",".join(map(str, weights)))
    values = expected["batches"][0]["per_example"]["loss"]
    assert [row["loss"] for row in found] == pytest.approx(values, rel=2e-6, abs=1e-9)


def test_units_equal_the_regions_of_loss(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, sent = case
    assert put(client, run, json_body(sent)).status_code == 201
    expected = loss(client, sent, config=description.get("config", {}), outputs=["regions"], top_regions=1000)
    for row, regions in zip(rows(client, run), expected["batches"][0]["per_example"]["regions"], strict=True):
        detail = client.get(f"{run}/examples/{row['id']}").json()
        assert row["num_units"] == len(regions) == len(detail["units"])
        assert row["num_wrong"] == sum(unit["num_elements"] for unit in detail["units"])
        for unit, region in zip(detail["units"], regions, strict=True):
            (start, *_), (stop, *_) = region["box"]
            name = {"multi_label": start, "tokens": [start, stop], "masks": region["region"]}[description["task"]]
            assert unit["unit"] == name
            assert (unit["target"], unit["suggested"]) == (region["given"], region["suggested"])
            assert (unit["num_elements"], unit["box"]) == (region["num_elements"], region["box"])
            assert (unit["loss"], unit["p_t"]) == pytest.approx((region["loss_sum"], region["p_t"]), rel=2e-6)
            assert unit["verdict"] is None
            if unit["num_elements"] == 1 and "mode" in description.get("config", {}):
                assert unit["suggested_p"] == pytest.approx(1 - unit["p_t"], abs=1e-6)


def test_elements_of_an_example(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, sent = case
    assert put(client, run, json_body(sent)).status_code == 201
    expected = loss(client, sent, config=description.get("config", {}), elements=["prediction", "log_odds"])
    first = {name: np.array(values[0]) for name, values in expected["batches"][0]["per_element"].items()}
    detail = client.get(f"{run}/examples/example 0").json()["elements"]
    assert detail["shape"] == list(first["prediction"].shape)
    targets = np.array(sent.batches[0].lists("targets")[0]).ravel().tolist()
    assert detail["targets"] == [None, *targets[1:]]
    assert detail["predictions"] == [-1 if value is None else value for value in first["prediction"].ravel().tolist()]
    assert detail["log_odds"][0] is None
    assert detail["log_odds"][1:] == pytest.approx(first["log_odds"].ravel().tolist()[1:], rel=1e-6)
    assert client.get(f"{run}/examples/example 0", params={"elements": "false"}).json()["elements"] is None


def test_statistics_are_stored_as_logits_are(
    client: httpx.Client, case: tuple[str, dict[str, Any], Structured]
) -> None:
    run, description, sent = case
    names = ["log_odds", "prediction", "entropy", "logit_margin", "normalized_margin", "el2n"]
    elements = loss(client, sent, config=description.get("config", {}), elements=names)["batches"][0]["per_element"]
    (batch,) = sent.batches
    flat = {name: np.concatenate([np.array(row, float).ravel() for row in elements[name]]) for name in names}
    parts = {name: values.reshape(batch.parts["targets"].shape) for name, values in flat.items()}
    # An ignored element may have any value.
    parts = {name: np.nan_to_num(values) for name, values in parts.items()}
    parts["prediction"] = parts["prediction"].astype(np.int64)
    if "mode" in description.get("config", {}):
        parts = {"log_odds": parts["log_odds"]}
    thin = Structured(sent.layout, [batch._replace(parts={"targets": batch.parts["targets"], **parts})])
    thin = Structured(sent.layout, thin.batches, {} if "mode" in description.get("config", {}) else {"num_classes": 3})
    replies = []
    for body in (json_body(sent), json_body(thin)):
        assert put(client, run, body).status_code == 201
        units = [client.get(f"{run}/examples/{row['id']}").json()["units"] for row in rows(client, run)]
        replies.append((rows(client, run), units))
        assert client.delete(f"{run}/epochs/0/batches/b").status_code == 204
    (full_rows, full_units), (thin_rows, thin_units) = replies
    for full, reduced in zip(full_rows, thin_rows, strict=True):
        for name in ("loss", *SCORES, *OF_ELEMENTS, "num_wrong", "num_units"):
            assert reduced[name] == pytest.approx(full[name], rel=1e-4, abs=1e-6), name
    for full, reduced in zip(full_units, thin_units, strict=True):
        assert [unit["unit"] for unit in full] == [unit["unit"] for unit in reduced]
        for name in ("loss", "p_t", "suggested_p"):
            assert [unit[name] for unit in reduced] == pytest.approx([unit[name] for unit in full], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("description", "code"),
    [
        ({"task": "multi_label"}, "invalid_request"),
        ({"task": "boxes"}, "invalid_request"),
        ({"task": "tokens", "config": {"label_smoothing": 0.1}}, "invalid_request"),
        ({"task": "tokens", "config": {"mode": "sigmoid", "alpha": [0.5, 0.5]}}, "invalid_request"),
        ({"within": "max"}, "invalid_request"),
        ({"task": "masks", "within": {"top_share": 0}}, "invalid_request"),
        ({"task": "multi_label", "config": {"mode": "sigmoid", "alpha": [0.5, 0.5]}, "class_names": ["a"]},) * 1
        + ("invalid_request",),
    ],
)
def test_an_invalid_description_is_an_error(client: httpx.Client, description: dict[str, Any], code: str) -> None:
    reply = client.put("/runs/invalid", json=description)
    assert (reply.status_code, reply.json()["code"]) == (422, code)


def test_another_task_is_another_run(client: httpx.Client, case: tuple[str, dict[str, Any], Structured]) -> None:
    run, description, _ = case
    assert client.put(run, json=description).status_code == 200
    other = {**description, "within": "mean" if description.get("within", "mean") != "mean" else "max"}
    assert client.put(run, json=other).json()["code"] == "run_conflict"


INVALID: list[tuple[str, dict[str, Any], str, list[object]]] = [
    ("labels", {"layout": "dense"}, "layout_not_stored", ["layout"]),
    ("labels", {"within": "max"}, "invalid_request", ["within"]),
    ("labels", {"targets": [[0, 1, 0.5]], "logits": [[1, 1, 1]], "ids": ["a"]}, "invalid_target", [0, "targets", 0, 2]),
    ("labels", {"targets": [0], "logits": [1.0], "ids": ["a"]}, "invalid_shape", [0, "logits"]),
    ("labels", {"targets": [[0, 1]], "logits": [[1, 1]], "ids": ["a"]}, "invalid_shape", []),
    ("labels", {"ids": None}, "invalid_ids", [0, "ids"]),
    ("tokens", {"targets": [[0, 3]], "logits": [[[1, 1, 1]] * 2], "ids": ["a"]}, "invalid_target", []),
    ("tokens", {"targets": [[0]], "logits": [[[1, 1]]], "ids": ["a"]}, "invalid_shape", []),
]


@pytest.mark.parametrize(("task", "changes", "code", "place"), INVALID)
def test_an_invalid_batch_is_an_error_and_stores_nothing(
    client: httpx.Client, task: str, changes: dict[str, Any], code: str, place: list[object]
) -> None:
    description, sent = TASKS[task]
    assert client.put("/runs/refuses", json=description).status_code == 201
    try:
        assert put(client, "/runs/refuses", json_body(sent), batch="first").status_code == 201
        (batch,) = sent.batches
        body = {"layout": sent.layout, "logits": batch.lists("logits"), "targets": batch.lists("targets")}
        body = {name: value for name, value in {**body, "ids": batch.ids, **changes}.items() if value is not None}
        reply = client.put("/runs/refuses/epochs/0/batches/b", json=body)
        assert reply.status_code == 422, reply.text
        assert reply.json()["code"] == code, reply.text
        if place:
            assert any(set(map(str, place)) <= set(map(str, error["loc"])) for error in reply.json()["errors"]), (
                reply.text
            )
        assert client.get("/runs/refuses").json()["epochs"][0]["num_batches"] == 1
    finally:
        client.delete("/runs/refuses")


def test_names_of_classes_are_targets(client: httpx.Client) -> None:
    client.put("/runs/named", json={"task": "tokens", "class_names": ["O", "PER"]})
    try:
        body = {"layout": "ragged", "logits": [[[2, 1], [1, 2]], [[1, 3]]], "ids": ["a", "b"]}
        reply = client.put("/runs/named/epochs/0/batches/b", json={**body, "targets": [["O", "PER"], ["O"]]})
        assert reply.status_code == 201, reply.text
        assert [row["num_wrong"] for row in rows(client, "/runs/named")] == [0, 1]
        reply = client.put("/runs/named/epochs/0/batches/c", json={**body, "targets": [["O", "PERS"], ["O"]]})
        assert reply.json()["code"] == "invalid_target"
        assert "PER" in reply.json()["detail"]
        assert reply.json()["errors"][0]["loc"][-3:] == ["targets", 0, 1]
    finally:
        client.delete("/runs/named")


def test_ignored_and_excluded_examples_are_counted_and_not_stored(client: httpx.Client) -> None:
    client.put("/runs/some", json={"task": "tokens"})
    try:
        body = {
            "layout": "ragged",
            "logits": [[[2, 1], [1, 2]], [], [[1, 3]], [[1, None]]],
            "targets": [[-100, 1], [], [-100], [0]],
            "ids": ["kept", "empty", "ignored", "invalid"],
            "on_invalid": "exclude",
        }
        reply = client.put("/runs/some/epochs/0/batches/b", json=body)
        assert reply.status_code == 201, reply.text
        (epoch,) = client.get("/runs/some").json()["epochs"]
        assert (epoch["num_examples"], epoch["num_ignored"], epoch["num_excluded"]) == (1, 2, 1)
        (row,) = rows(client, "/runs/some")
        assert (row["id"], row["num_valid"]) == ("kept", 1)
    finally:
        client.delete("/runs/some")


@pytest.mark.parametrize(
    ("task", "mode", "layout"),
    [("multi_label", "sigmoid", "rows"), ("tokens", "softmax", "ragged"), ("masks", "softmax", "dense")],
)
def test_a_batch_may_be_empty(client: httpx.Client, task: str, mode: str, layout: str) -> None:
    client.put(f"/runs/nothing-{task}", json={"task": task, "config": {"mode": mode}}).raise_for_status()
    body = {"layout": layout, "logits": [], "targets": [], "ids": []}
    reply = client.put(f"/runs/nothing-{task}/epochs/0/batches/a", json=body)
    assert (reply.status_code, reply.json()["num_examples"]) == (201, 0)
    assert client.get(f"/runs/nothing-{task}/diagnostics").json()["num_examples"] == 0


def test_the_last_row_of_an_example_counts(client: httpx.Client) -> None:
    description, sent = TASKS["masks"]
    client.put("/runs/twice", json=description)
    try:
        (batch,) = sent.batches
        flipped = batch._replace(parts={**batch.parts, "logits": -batch.parts["logits"]})
        for name, one in (("a", batch), ("b", flipped)):
            assert put(client, "/runs/twice", json_body(Structured("dense", [one])), batch=name).status_code == 201
        found = rows(client, "/runs/twice")
        assert len(found) == 4
        assert {row["batch"] for row in found} == {"b"}
        expected = loss(client, Structured("dense", [flipped]), within=description["within"])
        values = expected["batches"][0]["per_example"]["loss"]
        assert [row["loss"] for row in found] == pytest.approx(values, rel=2e-6)
    finally:
        client.delete("/runs/twice")


def test_examples_have_no_class_to_sort_or_filter_by(client: httpx.Client) -> None:
    description, sent = TASKS["masks"]
    client.put("/runs/classless", json=description)
    client.put("/runs/classes", json={})
    try:
        put(client, "/runs/classless", json_body(sent))
        for query in ({"sort": "target"}, {"sort": "-prediction"}, {"target": 1}, {"prediction": 0}):
            assert client.get("/runs/classless/examples", params=query).json()["code"] == "invalid_request", query
        assert client.get("/runs/classes/examples", params={"sort": "num_wrong"}).json()["code"] == "invalid_request"
        for correct in (True, False):
            found = rows(client, "/runs/classless", correct=correct)
            assert all((row["num_wrong"] == 0) is correct for row in found)
    finally:
        client.delete("/runs/classless")
        client.delete("/runs/classes")


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet", "application/x-ndjson"])
def test_pages_in_other_formats_and_by_cursor(client: httpx.Client, kind: str) -> None:
    description, sent = TASKS["labels"]
    client.put("/runs/paged", json=description)
    try:
        put(client, "/runs/paged", json_body(sent))
        whole = [row["id"] for row in rows(client, "/runs/paged", sort="-num_wrong,label_quality")]
        found, query = [], {"sort": "-num_wrong,label_quality", "limit": 4}
        while True:
            page = client.get("/runs/paged/examples", params=query).json()
            found += [row["id"] for row in page["rows"]]
            if page["next_cursor"] is None:
                break
            query = {**query, "cursor": page["next_cursor"]}
        assert found == whole
        reply = client.get("/runs/paged/examples", headers={"Accept": kind})
        assert reply.status_code == 200
        assert b"label_quality" in reply.content
    finally:
        client.delete("/runs/paged")


def test_a_mask_as_a_histogram_has_the_losses_of_its_elements(client: httpx.Client) -> None:
    """Elements with the same log-odds may be sent as one with a count; they have no place, so there are no units."""
    z, targets = np.array([-2.0, 0.5, 3.0, 3.0], np.float32), np.array([1, 0, 2, 1])
    counts = np.array([3, 2, 1, 4])
    whole = np.repeat(z, counts).reshape(1, 2, 5)
    parts = {"targets": np.repeat(targets, counts).reshape(1, 2, 5), "log_odds": whole}
    dense = Structured("dense", [Examples({**parts, "prediction": np.zeros((1, 2, 5), np.int64)}, ids=["m"])])
    statistics = {"targets": targets, "log_odds": z, "element_count": counts}
    thin = Structured("ragged", [Examples(statistics, np.array([0, 4]), ["m"])])
    description = {"task": "masks", "config": {"alpha": [1.0, 2.0, 0.5]}}
    for name, sent in (("whole", dense), ("thin", thin)):
        assert client.put(f"/runs/{name}", json=description).status_code == 201
        for number, (kind, body) in enumerate(bodies(sent)):
            reply = put(client, f"/runs/{name}", body, kind)
            assert reply.status_code == (200 if number else 201), (kind, reply.text)
    try:
        for gamma in (0, 2, 5):
            (expected,), (found,) = rows(client, "/runs/whole", gamma=gamma), rows(client, "/runs/thin", gamma=gamma)
            for name in ("loss", "cross_entropy", "p_t", "max_loss", "loss_sum", "num_valid", "label_quality"):
                assert found[name] == pytest.approx(expected[name], rel=1e-6), name
        assert (found["num_wrong"], found["num_units"]) == (None, 0)
        detail = client.get("/runs/thin/examples/m").json()
        assert (detail["elements"], detail["units"]) == (None, [])
        body = {"layout": "ragged", "ids": ["x"], "targets": [[1]], "log_odds": [[1.0]], "element_count": [[2]]}
        client.put("/runs/of-tokens", json={"task": "tokens"})
        reply = client.put("/runs/of-tokens/epochs/0/batches/b", json={**body, "prediction": [[1]], "num_classes": 2})
        assert "element_count is for runs of the task masks" in reply.json()["detail"]
    finally:
        for name in ("whole", "thin", "of-tokens"):
            client.delete(f"/runs/{name}")
