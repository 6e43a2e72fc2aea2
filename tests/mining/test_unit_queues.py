"""Queues of units over HTTP, compared with units found by scipy and losses of the paper's formula."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import orjson
import pytest
from cleanlab.filter import find_label_issues

from service.mining.listing import CURRENT
from service.mining.queue_file import queue_content, read_queue
from service.mining.queue_table import QueueTable, table_of
from service.mining.unit_requests import OF_CLASSES
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueHead
from service.schema.structure import Task
from tests.lanes import mostly_slow
from tests.mining.structured_runs import NAMES, TASKS, Data, Row
from tests.services import running_app

EVERYTHING = 10_000


def mined(client: httpx.Client, run: str, query: str = "", **request: Any) -> dict[str, Any]:
    """A preview of a queue with up to 200 rows of the page."""
    body = {"strategy": "top_loss", "budget": EVERYTHING} | request
    reply = client.post(f"/runs/{run}/queues?preview=true{query}", json=body)
    assert reply.status_code == 200, reply.text
    result: dict[str, Any] = reply.json()
    return result


def names(rows: list[Row]) -> list[tuple[str, Any]]:
    return [(row["id"], row["unit"]) for row in rows]


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_units_are_ranked_by_their_summed_loss(task_runs: httpx.Client, data: dict[Task, Data], task: Task) -> None:
    expected = data[task].units()
    assert len(expected) > 40
    result = mined(task_runs, task)
    rows = result["rows"]
    assert result["num_rows"] == len(expected)
    assert names(rows) == names(expected)[: len(rows)]
    for row, unit in zip(rows, expected, strict=False):
        assert row["loss"] == row["score"] == pytest.approx(unit["loss"], rel=1e-5)
        assert (row["box"], row["num_elements"]) == (unit["box"], unit["num_elements"])
        assert (row["target"], row["suggested"]) in unit["pairs"]
        assert row["prediction"] == row["suggested"]
        assert row["control"] is False
    total = sum(row["share"] for row in mined(task_runs, task, "&gamma=2")["rows"])
    assert 0 < total <= 1


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_another_gamma_changes_the_order_of_units(task_runs: httpx.Client, data: dict[Task, Data], task: Task) -> None:
    orders = []
    for gamma in (0.0, 5.0):
        rows = mined(task_runs, task, f"&gamma={gamma}")["rows"]
        assert names(rows) == names(data[task].units(gamma))[: len(rows)]
        orders.append(names(rows))
    # A label has one element: gamma changes no order.
    assert (orders[0] == orders[1]) is (task == "multi_label")


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_self_confidence_ranks_units_by_their_least_probable_element(
    task_runs: httpx.Client, data: dict[Task, Data], task: Task
) -> None:
    rows = mined(task_runs, task, strategy="self_confidence")["rows"]
    lowest = {(unit["id"], str(unit["unit"])): unit["lowest"] for unit in data[task].units()}
    scores = [row["score"] for row in rows]
    assert scores == pytest.approx([lowest[row["id"], str(row["unit"])] for row in rows], rel=1e-5)
    assert scores == sorted(scores)


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_no_unit_is_twice_in_a_queue_and_a_cap_counts_those_of_an_example(
    task_runs: httpx.Client, data: dict[Task, Data], task: Task
) -> None:
    mix = {"top_loss": 0.4, "self_confidence": 0.4, "random": 0.2}
    result = mined(task_runs, task, strategy="mix", mix=mix, at_most={"count": 2}, exclude_reviewed=False)
    keys = [(row["id"], str(row["unit"])) for row in result["rows"]]
    assert len(set(keys)) == len(keys)
    units, whole = ([row for row in result["rows"] if (row["unit"] is None) is kind] for kind in (False, True))
    assert max(Counter(row["id"] for row in units).values()) == 2
    # A cap on units leaves the random examples a sample of all.
    assert result["is_control"]
    assert whole
    assert [row["control"] for row in result["rows"]] == [row["unit"] is None for row in result["rows"]]
    alone = mined(task_runs, task, at_most={"count": 1})
    first = {unit["id"]: unit["number"] for unit in reversed(data[task].units())}
    expected = [unit for unit in data[task].units() if first[unit["id"]] == unit["number"]]
    assert alone["num_rows"] == len(expected)
    assert names(alone["rows"]) == names(expected)[: len(alone["rows"])]
    by_group = mined(task_runs, task, at_most={"attribute": "group", "count": 3})
    assert max(Counter(int(row["id"][1:]) % 4 for row in by_group["rows"]).values()) == 3


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_other_strategies_rank_whole_examples(task_runs: httpx.Client, task: Task) -> None:
    rows = mined(task_runs, task, strategy="label_quality")["rows"]
    assert len(rows) == 40
    qualities = [task_runs.get(f"/runs/{task}/examples/{row['id']}").json()["label_quality"] for row in rows]
    assert [row["score"] for row in rows] == pytest.approx(qualities, rel=1e-6)
    assert qualities == sorted(qualities)
    for strategy in ("logit_margin", "normalized_margin", "ambiguous", "area_under_margin", "top_share", "random"):
        rows = mined(task_runs, task, strategy=strategy)["rows"]
        assert rows, strategy
        for row in rows:
            assert row["unit"] is row["box"] is row["target"] is row["prediction"] is row["suggested"] is None
            assert row["num_elements"] >= 1
    whole = mined(task_runs, task, units=False)["rows"]
    losses = [row["loss"] for row in whole]
    assert losses == sorted(losses, reverse=True)
    assert len(whole) == len({row["id"] for row in whole}) == 40


PERCENT = r"(over )?\d+\.\d+ %"
REASONS: dict[Task, str] = {
    "multi_label": rf"Label (beach|city|dog|night|snow): given (absent|present), the model says (present|absent) with "
    rf"{PERCENT}; focal loss \S+, {PERCENT} of the example's\.",
    "tokens": rf"(Token \d+|Tokens \d+ to \d+): given (O|PER|ORG|LOC), the model says (O|PER|ORG|LOC) with {PERCENT}; "
    rf"focal loss \S+, {PERCENT} of the example's\.",
    "masks": rf"Region of (1 pixel|\d+ pixels): given (background|road|car), the model says (background|road|car) with "
    rf"{PERCENT}; focal loss \S+, {PERCENT} of the image's\.",
}


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_the_reason_names_the_unit_the_classes_and_its_share(
    task_runs: httpx.Client, data: dict[Task, Data], task: Task
) -> None:
    shares = {(unit["id"], str(unit["unit"])): unit["share"] for unit in data[task].units()}
    rows = mined(task_runs, task)["rows"]
    for row in rows:
        assert re.fullmatch(REASONS[task], row["reason"]), row["reason"]
        share = float(row["reason"].rpartition(", ")[2].partition(" %")[0].removeprefix("over "))
        assert share == pytest.approx(100 * shares[row["id"], str(row["unit"])], abs=0.06)
        assert f"{row['loss']:.4g}," in row["reason"]
    row = rows[0]
    if task == "multi_label":
        words = [f"Label {NAMES[task][row['unit']]}:", f"given {['absent', 'present'][row['target']]},"]
    else:
        words = [f"given {NAMES[task][row['target']]},", f"the model says {NAMES[task][row['suggested']]} with"]
    assert all(word in row["reason"] for word in words)
    elements = {"multi_label": "labels", "tokens": "tokens", "masks": "elements"}[task]
    for row in mined(task_runs, task, strategy="random")["rows"]:
        model = rf"the model (differs in \d+ of {row['num_elements']}|agrees in all) {elements}"
        assert re.fullmatch(rf"Drawn at random, as a control: {model}\.", row["reason"]), row["reason"]
    for strategy in set(get_args(Strategy)) - set(OF_CLASSES):
        for row in mined(task_runs, task, strategy=strategy, budget=3)["rows"]:
            assert row["reason"].count(". ") == 0
            assert row["reason"].endswith(".")


def cleanlab_marks(data: Data) -> dict[str, np.ndarray]:
    """The elements that cleanlab marks, flat, by the id of the example."""
    examples = data.examples
    if data.task == "multi_label":
        logits = np.stack([example.logits.astype(np.float64) for example in examples])
        targets = np.stack([example.targets for example in examples])
        p = 1 / (1 + np.exp(-logits))
        marks = np.zeros(targets.shape, bool)
        for number, label in enumerate(targets.T):
            counts = label >= 0
            of_label = np.stack([1 - p[counts, number], p[counts, number]], axis=1)
            marks[counts, number] = find_label_issues(label[counts], of_label, n_jobs=1)
        return {example.id: marks[row] for row, example in enumerate(examples)}
    axis = 0 if data.task == "masks" else 1
    flat = [
        np.moveaxis(example.logits.astype(np.float64), axis, -1).reshape(-1, len(NAMES[data.task]))
        for example in examples
    ]
    logits, targets = np.concatenate(flat), np.concatenate([example.targets.reshape(-1) for example in examples])
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    marks = np.zeros(len(targets), bool)
    marks[targets >= 0] = find_label_issues(targets[targets >= 0], p[targets >= 0], n_jobs=1)
    parts = np.split(marks, np.cumsum([example.targets.size for example in examples])[:-1])
    return {example.id: part for example, part in zip(examples, parts, strict=True)}


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_suspected_errors_are_the_units_with_an_element_that_cleanlab_marks(
    task_runs: httpx.Client, data: dict[Task, Data], task: Task
) -> None:
    marks = cleanlab_marks(data[task])
    expected = [unit for unit in data[task].units() if marks[unit["id"]][unit["places"]].any()]
    assert 10 < len(expected) < len(data[task].units())
    result = mined(task_runs, task, strategy="suspected_errors")
    assert result["num_rows"] == len(expected)
    rows = result["rows"]
    if len(rows) == len(expected):
        assert sorted(map(str, names(rows))) == sorted(map(str, names(expected)))
    assert {str(name) for name in names(rows)} <= {str(name) for name in names(expected)}
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores)
    assert mined(task_runs, task, "&gamma=0", strategy="suspected_errors")["num_rows"] == len(expected)
    whole = mined(task_runs, task, strategy="suspected_errors", units=False)["rows"]
    assert {row["id"] for row in whole} == {unit["id"] for unit in expected}


def test_quotas_count_the_labels_of_a_multi_label_run_and_the_given_classes_of_others(
    task_runs: httpx.Client, data: dict[Task, Data]
) -> None:
    result = mined(task_runs, "multi_label", per_class={"beach": 3, "snow": 2}, budget=5)
    assert result["num_per_class"] == {"0": 3, "4": 2}
    assert mined(task_runs, "tokens", per_class={"PER": 2, "O": 1})["num_per_class"] == {"1": 2, "0": 1}
    assert min(mined(task_runs, "masks", min_per_class=2, budget=6)["num_per_class"].values()) == 2
    absent = mined(task_runs, "multi_label", only={"target": 0})["rows"]
    assert {row["target"] for row in absent} == {0}
    roads = mined(
        task_runs, "masks", only={"prediction": "road", "ids": ["e001", "e002", "e003"], "ranges": {"loss": [1, None]}}
    )
    assert {row["suggested"] for row in roads["rows"]} == {1}
    assert min(row["loss"] for row in roads["rows"]) >= 1


REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("classification", {"units": True}, ["units"]),
    ("classification", {"strategy": "label_quality"}, ["strategy"]),
    ("classification", {"strategy": "mix", "mix": {"label_quality": 1}}, ["mix"]),
    ("masks", {"units": True, "strategy": "ambiguous"}, ["units"]),
    ("masks", {"units": True, "strategy": "random"}, ["units"]),
    ("masks", {"units": True, "strategy": "label_quality"}, ["units"]),
    ("tokens", {"units": True, "strategy": "mix", "mix": {"top_loss": 1, "logit_margin": 1}}, ["units"]),
    ("tokens", {"units": False, "per_class": "equal"}, ["per_class"]),
    ("tokens", {"strategy": "ambiguous", "min_per_class": 1}, ["min_per_class"]),
    ("masks", {"strategy": "random", "only": {"target": "road"}}, ["only", "target"]),
    ("masks", {"only": {"correct": True}}, ["only", "correct"]),
    ("masks", {"only": {"ranges": {"entropy": [0, 1]}}}, ["only", "ranges", "entropy"]),
    ("multi_label", {"only": {"target": "beach"}}, ["only", "target"]),
    ("multi_label", {"only": {"prediction": 2}}, ["only", "prediction"]),
    ("multi_label", {"per_class": {"sun": 1}}, ["per_class", "sun"]),
    ("masks", {"at_most": {"count": 0}}, ["at_most", "count"]),
    ("tokens", {"strategy": "adjusted_margin"}, ["strategy"]),
    ("multi_label", {"strategy": "mix", "mix": {"adjusted_self_confidence": 1}}, ["mix"]),
]


@pytest.mark.parametrize(("run", "request_", "place"), REFUSED)
def test_a_request_that_does_not_fit_the_task_is_refused(
    task_runs: httpx.Client, run: str, request_: dict[str, Any], place: list[str]
) -> None:
    reply = task_runs.post(f"/runs/{run}/queues", json={"strategy": "top_loss"} | request_)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == place
    assert task_runs.get(f"/runs/{run}/queues").json()["queues"] == []


def test_a_queue_without_rows_has_a_page(client: httpx.Client) -> None:
    for task in TASKS:
        Data.of(task, 6).put(client, f"few-{task}")
        body = {"strategy": "semi_hard", "margin": 1e-9, "name": "none", "units": False}
        assert client.post(f"/runs/few-{task}/queues", json=body).json()["num_rows"] == 0
        assert client.get(f"/runs/few-{task}/queues/none").json()["rows"] == []


def test_without_logits_tokens_have_no_suspected_errors_but_labels_have(client: httpx.Client) -> None:
    for task, status in (("tokens", 422), ("masks", 422), ("multi_label", 200)):
        Data.of(task, 12).put(client, f"bare-{task}", store_logits=False)
        reply = client.post(f"/runs/bare-{task}/queues?preview=true", json={"strategy": "suspected_errors"})
        assert reply.status_code == status
        assert status == 200 or "logits of this epoch are not stored" in reply.json()["detail"]
        assert mined(client, f"bare-{task}")["rows"]


def test_examples_without_the_score_of_a_strategy_are_left_out_with_a_warning(client: httpx.Client) -> None:
    data = Data.of("tokens", 12)
    data.put(client, "thin")
    extra = [replace(example, id=f"x{example.id}") for example in data.examples[:5]]
    batch = {
        "layout": "ragged",
        "num_classes": 4,
        "log_odds": [data.log_odds(example).tolist() for example in extra],
        "prediction": [data.predictions(example).tolist() for example in extra],
        "targets": [example.targets.tolist() for example in extra],
        "ids": [example.id for example in extra],
    }
    assert client.put("/runs/thin/epochs/0/batches/thin", json=batch).status_code == 201
    for strategy, score in (("logit_margin", "logit_margin"), ("ambiguous", "entropy"), ("semi_hard", "logit_margin")):
        result = mined(client, "thin", strategy=strategy, margin=1e6)
        assert not {row["id"] for row in result["rows"]} & {example.id for example in extra}
        assert result["warnings"][-1] == f"5 examples were sent without {score}, and are left out of its ranking"
    assert mined(client, "thin", strategy="label_quality")["num_rows"] == 17
    assert mined(client, "thin")["warnings"] == []


def test_masks_as_histograms_are_whole_rows_by_default(client: httpx.Client) -> None:
    Data.of("masks", 6).put(client, "histograms")
    batch = {"layout": "ragged", "ids": ["h0", "h1"], "targets": [[1, 0], [2]], "log_odds": [[-9.0, 1.0], [2.0]]}
    counts = {"element_count": [[40, 24], [64]], "num_classes": 3}
    assert client.put("/runs/histograms/epochs/0/batches/h", json=batch | counts).status_code == 201
    result = mined(client, "histograms")
    assert {row["id"] for row in result["rows"]} == {"h0", "h1", *(f"e00{number}" for number in range(6))}
    (row,) = (row for row in result["rows"] if row["id"] == "h0")
    assert (row["unit"], row["num_elements"]) == (None, 64)
    assert row["reason"].endswith(": it was sent as a histogram, without predictions.")
    assert (result["warnings"], result["request"]["units"]) == ([], None)
    units = mined(client, "histograms", units=True)
    assert units["rows"]
    assert all(row["unit"] is not None and row["id"].startswith("e") for row in units["rows"])
    assert units["warnings"] == ["2 masks were sent as histograms, which have no regions, and are left out"]
    reply = client.post("/runs/histograms/queues", json={"strategy": "suspected_errors"})
    assert (reply.status_code, "histograms" in reply.json()["detail"]) == (422, True)


def test_rows_of_one_class_have_no_members_of_units(task_runs: httpx.Client) -> None:
    (row, *_) = mined(task_runs, "classification", at_most={"count": 1})["rows"]
    assert not {"unit", "num_elements", "box"} & set(row)


@pytest.mark.parametrize("task", mostly_slow(TASKS, quick=1))
def test_a_queue_of_units_is_read_as_it_was_written(task_runs: httpx.Client, task: Task) -> None:
    mix = {"strategy": "mix", "mix": {"top_loss": 0.7, "random": 0.3}, "budget": 30}
    reply = task_runs.post(f"/runs/{task}/queues?preview=true", json=mix).json()
    rows = [{name: value for name, value in row.items() if name not in CURRENT} for row in reply["rows"]]
    head = {name: reply[name] for name in QueueHead.__annotations__ if name in reply}
    content = b"".join(queue_content(QueueTable.of(head, table_of(rows))))
    assert read_queue(io.BytesIO(content)).dicts() == rows
    for name in ("unit", "num_elements", "box"):
        less = [{key: value for key, value in row.items() if key != name} for row in rows]
        lines = orjson.dumps({**head, "rows": less})
        with pytest.raises(ValueError, match="some of unit, num_elements and box"):
            read_queue(io.BytesIO(lines))


DAMAGED: list[tuple[Task, Row, str]] = [
    ("multi_label", {"unit": 5}, "has label 5; the run has 5 labels"),
    ("multi_label", {"unit": [0, 1]}, "has label [0,1]; the run has 5 labels"),
    ("multi_label", {"target": 2}, "has class 2; the run has 2 classes"),
    ("masks", {"suggested": 3}, "has class 3; the run has 3 classes"),
]


def test_a_stored_row_that_is_not_of_the_run_is_damage(tmp_path: Path, data: dict[Task, Data]) -> None:
    with running_app(tmp_path) as transport, httpx.Client(base_url="http://localhost", transport=transport) as client:
        for task in ("multi_label", "masks"):
            data[task].put(client, task)
        for number, (task, change, words) in enumerate(DAMAGED):
            name = f"q{number}"
            client.post(f"/runs/{task}/queues", json={"strategy": "top_loss", "name": name}).raise_for_status()
            (path,) = tmp_path.glob(f"data/runs/{task}/*/queues/{name}.json")
            content = orjson.loads(path.read_bytes())
            content["rows"][1] |= change
            path.unlink()
            path.write_bytes(orjson.dumps(content))
            reply = client.get(f"/runs/{task}/queues/{name}")
            assert (reply.status_code, reply.json()["code"]) == (409, "run_damaged"), change
            assert words in reply.json()["detail"]
