"""Exports of runs of labels, tokens and masks: for each labelling tool, and as tables of units."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet
import pytest

from service.client import LossClient
from tests.exports.structured_examples import mask_of
from tests.lanes import mostly_slow

# The SDK of Label Studio warns of its own use of pydantic when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")

RNG = np.random.default_rng(3)
RUN = "/runs/structured-exports"
LABELS = ["beach", "sea", 'dog "<&>"']
ENTITIES = ["O", "B-PER", "I-PER", "LOC"]
SENTENCES = [["Ada", "Lovelace", "saw", "London"], ["\U0001f408", "ran"], ["Rain"]]
CLASSES = ["road", "car", "tree"]

given_labels = RNG.integers(0, 2, (5, 3))
label_logits = RNG.normal(size=(5, 3)) * 3
given_tokens = np.array([1, 0, 0, 0, 3, 0, 0])
token_classes = np.array([1, 2, 0, 3, 0, 0, 0])  # the tokens 1, 3 and 4 are wrong
token_logits = (4 * np.eye(4)[token_classes] + RNG.normal(size=(7, 4)) * 0.1).round(3)
given_masks = RNG.integers(0, 3, (4, 5, 7))
mask_classes = np.where(RNG.random((4, 5, 7)) < 0.5, given_masks, RNG.integers(0, 3, (4, 5, 7)))
mask_logits = np.moveaxis(4 * np.eye(3)[mask_classes], 3, 1)
given_masks[0, 0, 0] = -100

BATCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "multi_label": (
        {"config": {"mode": "sigmoid"}, "class_names": LABELS},
        {"logits": label_logits.tolist(), "targets": given_labels.tolist(), "attributes": {"text": list("abcde")}},
    ),
    "tokens": (
        {"class_names": ENTITIES},
        {
            "layout": "ragged",
            "logits": [part.tolist() for part in np.split(token_logits, [4, 6])],
            "targets": [part.tolist() for part in np.split(given_tokens, [4, 6])],
            "attributes": {"tokens": SENTENCES},
        },
    ),
    "masks": (
        {"class_names": CLASSES},
        {
            "layout": "dense",
            "logits": mask_logits.tolist(),
            "targets": given_masks.tolist(),
            "attributes": {"image": [f"images/{number}.png" for number in range(4)]},
        },
    ),
}
NUMBERS = {"multi_label": 5, "tokens": 3, "masks": 4}


@pytest.fixture
def run(request: pytest.FixtureRequest, client: httpx.Client) -> Iterator[str]:
    """The task of a run with a batch of ids `e0`, `e1`, ..."""
    task: str = request.param
    description, batch = BATCHES[task]
    client.delete(RUN)
    client.put(RUN, json={"task": task} | description).raise_for_status()
    body = batch | {"ids": [f"e{row}" for row in range(NUMBERS[task])]}
    reply = client.put(f"{RUN}/epochs/0/batches/b", json=body)
    assert reply.status_code == 201, reply.text
    yield task
    client.delete(RUN)


def of(*tasks: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", mostly_slow(tasks, quick=1), indirect=True)


def export(client: httpx.Client, format: str, **query: Any) -> httpx.Response:
    reply = client.get(f"{RUN}/export", params={"format": format, **query})
    assert reply.status_code == 200, reply.text
    return reply


def units(client: httpx.Client) -> dict[str, list[dict[str, Any]]]:
    """The units of each example by its id."""
    rows = client.get(f"{RUN}/examples").json()["rows"]
    return {row["id"]: client.get(f"{RUN}/examples/{row['id']}").json()["units"] for row in rows}


def results(tasks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The regions of each task, by the id of its example."""
    return {task["data"]["external_id"]: task["predictions"][0]["result"] for task in tasks}


@of("multi_label", "tokens", "masks")
@pytest.mark.parametrize("mask_tag", ["BrushLabels", "PolygonLabels"])
def test_the_sdk_accepts_all_tasks(client: httpx.Client, run: str, mask_tag: str) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    query = {"format": "label-studio", "rows": 20, "mask_tag": mask_tag}
    preview = client.get(f"{RUN}/export/preview", params=query).json()
    assert preview["validator"]["refused"] == []
    assert preview["validator"]["accepted"] == preview["num_rows"] == NUMBERS[run]


@of("multi_label")
def test_label_studio_gets_all_predicted_labels_and_the_given_ones(client: httpx.Client, run: str) -> None:
    tasks = export(client, "label-studio").json()
    for task in tasks:
        row = int(task["data"]["external_id"][1:])
        predicted = [LABELS[place] for place in np.flatnonzero(label_logits[row] > 0)]
        result = task["predictions"][0]["result"]
        assert [region["value"]["choices"] for region in result] == ([predicted] if predicted else [])
        given = [LABELS[place] for place in np.flatnonzero(given_labels[row])]
        assert (task["data"]["given_label"], task["data"]["suggested_label"]) == (
            ", ".join(given),
            ", ".join(predicted),
        )
        wrong = np.flatnonzero(given_labels[row] != (label_logits[row] > 0)).tolist()
        assert [unit["unit"] for unit in task["data"]["units"]] == wrong
    config = client.get(f"{RUN}/label-studio/config").text
    assert 'choice="multiple"' in config
    assert 'value="Given labels: $given_label"' in config


@of("tokens")
def test_label_studio_gets_the_characters_of_wrong_spans(client: httpx.Client, run: str) -> None:
    tasks = {task["data"]["external_id"]: task for task in export(client, "label-studio").json()}
    assert tasks["e0"]["data"]["text"] == "Ada Lovelace saw London"
    found = {
        name: [(region["type"], region["value"]) for region in task["predictions"][0]["result"]]
        for name, task in tasks.items()
    }
    assert found == {
        "e0": [
            ("labels", {"start": 4, "end": 12, "text": "Lovelace", "labels": ["PER"]}),
            ("labels", {"start": 17, "end": 23, "text": "London", "labels": ["LOC"]}),
        ],
        "e1": [("labels", {"start": 0, "end": 1, "text": "\U0001f408", "labels": ["O"]})],
        "e2": [],
    }
    assert [unit["given_label"] for unit in tasks["e0"]["data"]["units"]] == ["O", "O"]
    config = client.get(f"{RUN}/label-studio/config").text
    assert [config.count(f'<Label value="{label}"') for label in ("O", "PER", "LOC", "B-PER")] == [1, 1, 1, 0]


def wrong_pixels(row: int, predicted: int) -> Any:
    given = given_masks[row]
    return (given >= 0) & (given != mask_classes[row]) & (mask_classes[row] == predicted)


@of("masks")
def test_label_studio_gets_the_pixels_of_wrong_regions(client: httpx.Client, run: str) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    tasks = export(client, "label-studio").json()
    assert tasks[0]["data"]["image"].startswith("images/")
    for name, regions in results(tasks).items():
        painted = np.zeros((3, 5, 7), int)
        for region in regions:
            assert (region["original_width"], region["original_height"], region["type"]) == (7, 5, "brushlabels")
            (label,) = region["value"]["brushlabels"]
            pixels = brush.decode_rle(region["value"]["rle"]).reshape(5, 7, 4)
            painted[CLASSES.index(label)] += pixels[:, :, 3] > 0
        for predicted in range(3):
            assert (painted[predicted] == wrong_pixels(int(name[1:]), predicted)).all()


@of("masks")
def test_polygons_have_the_area_of_the_wrong_regions(client: httpx.Client, run: str) -> None:
    for name, regions in results(export(client, "label-studio", mask_tag="PolygonLabels").json()).items():
        areas = np.zeros(3)
        for region in regions:
            x, y = np.array(region["value"]["points"]).T * [[7], [5]] / 100
            (label,) = region["value"]["polygonlabels"]
            areas[CLASSES.index(label)] += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
        expected = [wrong_pixels(int(name[1:]), predicted).sum() for predicted in range(3)]
        np.testing.assert_allclose(areas, expected, atol=1e-9)


@of("multi_label", "tokens", "masks")
def test_the_ml_backend_predicts_what_the_export_has(client: httpx.Client, run: str) -> None:
    tasks = export(client, "label-studio").json()
    config = client.get(f"{RUN}/label-studio/config").text
    body = {"tasks": [{"data": task["data"]} for task in reversed(tasks)], "label_config": config}
    predicted = client.post(f"{RUN}/label-studio/predict", json=body).json()["results"]
    assert predicted == [task["predictions"][0] for task in reversed(tasks)]


@of("tokens", "multi_label")
def test_argilla_gets_spans_and_lists_of_labels(client: httpx.Client, run: str) -> None:
    records = {record["id"]: record for record in map(json.loads, export(client, "argilla").text.splitlines())}
    if run == "tokens":
        assert records["e1"]["text"] == "\U0001f408 ran"
        assert records["e1"]["label.suggestion"] == [{"label": "O", "start": 0, "end": 1}]
        assert records["e1"]["label.suggestion.score"] == [pytest.approx(0.95, abs=0.04)]
        assert "label.suggestion" not in records["e2"]
    else:
        for name, record in records.items():
            logits = label_logits[int(name[1:])]
            expected = {LABELS[place]: 1 / (1 + np.exp(-logits[place])) for place in np.flatnonzero(logits > 0)}
            labels, scores = record.get("label.suggestion", []), record.get("label.suggestion.score", [])
            assert dict(zip(labels, scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    preview = client.get(f"{RUN}/export/preview", params={"format": "argilla"}).json()
    assert (preview["validator"]["accepted"], preview["validator"]["refused"]) == (3, [])


@of("masks")
def test_fiftyone_gets_the_predicted_classes_of_all_pixels(client: httpx.Client, run: str) -> None:
    content = export(client, "fiftyone").json()
    assert content["classes"] == CLASSES
    for row in range(4):
        label = content["labels"][f"images/{row}"]
        mask = mask_of(label["mask"])
        assert mask.dtype == np.uint8
        assert (mask == np.where(given_masks[row] < 0, 255, mask_classes[row])).all()
        assert label["attributes"]["external_id"] == f"e{row}"
    preview = client.get(f"{RUN}/export/preview", params={"format": "fiftyone"}).json()
    assert (preview["validator"]["accepted"], preview["validator"]["refused"]) == (3, [])


@of("multi_label")
def test_fiftyone_gets_lists_of_labels(client: httpx.Client, run: str) -> None:
    for name, label in export(client, "fiftyone").json()["labels"].items():
        logits = label_logits[int(name[1:])]
        found = {item["label"]: item["confidence"] for item in label["classifications"]}
        expected = {LABELS[place]: 1 / (1 + np.exp(-logits[place])) for place in np.flatnonzero(logits > 0)}
        assert found == pytest.approx(expected, abs=1e-5)


@of("tokens", "masks")
def test_a_tool_without_such_labels_is_refused(client: httpx.Client, run: str) -> None:
    name, others = ("fiftyone", "argilla") if run == "tokens" else ("argilla", "fiftyone")
    for address in (f"{RUN}/export", f"{RUN}/export/preview"):
        reply = client.get(address, params={"format": name})
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
        assert (
            f"{name} has no labels of the task {run}; there are label-studio, {others}, csv" in reply.json()["detail"]
        )


@of("multi_label", "tokens", "masks")
def test_tables_have_the_units_largest_loss_first(client: httpx.Client, run: str) -> None:
    expected = {(name, json.dumps(unit["unit"])): unit for name, found in units(client).items() for unit in found}
    rows = [json.loads(line) for line in export(client, "jsonl").text.splitlines()]
    assert {(row["id"], json.dumps(row["unit"])) for row in rows} == expected.keys()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["loss"] for row in rows] == sorted((row["loss"] for row in rows), reverse=True)
    for row in rows:
        unit = expected[row["id"], json.dumps(row["unit"])]
        for name in ("target", "suggested", "suggested_p", "num_elements", "box", "p_t"):
            close = row[name] == unit[name] if isinstance(row[name], list) else row[name] == pytest.approx(unit[name])
            assert close, name
    assert sum(row["share"] for row in rows) < 1
    names = ["absent", "present"] if run == "multi_label" else ENTITIES if run == "tokens" else CLASSES
    assert all(row["given_label"] == names[row["target"]] for row in rows)
    assert all(row["unit_name"] == (LABELS[row["unit"]] if run == "multi_label" else None) for row in rows)
    cells = list(csv.DictReader(io.StringIO(export(client, "csv").text, newline="")))
    table = pyarrow.parquet.read_table(io.BytesIO(export(client, "parquet").content)).to_pylist()
    for row, cell, values in zip(rows, cells, table, strict=True):
        assert json.loads(cell["unit"]) == json.loads(values["unit"]) == row["unit"]
        assert json.loads(cell["box"]) == json.loads(values["box"]) == row["box"]
        assert list(cell) == list(values) == list(row)


@of("masks")
def test_tables_of_whole_examples(client: httpx.Client, run: str) -> None:
    rows = [json.loads(line) for line in export(client, "jsonl", units="false").text.splitlines()]
    examples = client.get(f"{RUN}/examples", params={"sort": "-loss"}).json()["rows"]
    assert [(row["id"], row["loss"]) for row in rows] == [(row["id"], row["loss"]) for row in examples]
    assert all(row[name] is None for row in rows for name in ("unit", "box", "target", "given_label"))
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    for query in ("format=argilla&units=true", "format=csv&units=true&queue=q"):
        assert client.get(f"{RUN}/export?{query}").status_code == 422


def make_queue(client: httpx.Client, **request: Any) -> list[dict[str, Any]]:
    """The rows of a new queue `q`."""
    reply = client.post(f"{RUN}/queues", json={"name": "q"} | request)
    assert reply.status_code == 201, reply.text
    rows: list[dict[str, Any]] = client.get(f"{RUN}/queues/q", params={"limit": 100}).json()["rows"]
    return rows


@of("multi_label", "tokens", "masks")
def test_tables_have_the_rows_of_a_queue_with_the_verdicts_of_units(client: httpx.Client, run: str) -> None:
    expected = make_queue(client, strategy="top_loss", budget=6)
    wrong = expected[1]
    review = {"id": wrong["id"], "unit": wrong["unit"], "verdict": "wrong", "label": wrong["suggested"]}
    assert client.post(f"{RUN}/reviews", json=[review]).status_code == 201
    rows = [json.loads(line) for line in export(client, "jsonl", queue="q").text.splitlines()]
    shared = ("rank", "id", "unit", "num_elements", "box", "suggested", "loss", "share", "score", "reason")
    assert [[row[name] for name in shared] for row in rows] == [[row[name] for name in shared] for row in expected]
    assert [row["verdict"] for row in rows] == [None, "wrong", *[None] * (len(rows) - 2)]
    assert rows[1]["verdict_label"] == rows[1]["suggested_label"] != rows[1]["given_label"]


@of("multi_label", "tokens", "masks")
def test_a_tool_gets_each_example_of_a_queue_once_with_the_units_of_the_queue(client: httpx.Client, run: str) -> None:
    rows = make_queue(client, strategy="top_loss", budget=4)
    tasks = export(client, "label-studio", queue="q").json()
    units = {task["data"]["external_id"]: [unit["unit"] for unit in task["data"]["units"]] for task in tasks}
    assert list(units) == list(dict.fromkeys(row["id"] for row in rows))
    preview = client.get(f"{RUN}/export/preview", params={"format": "label-studio", "queue": "q", "rows": 2}).json()
    assert (preview["rows"], preview["num_rows"]) == (tasks[:2], len(tasks))
    assert [(name, unit) for name, found in units.items() for unit in found] == [
        (name, row["unit"]) for name in units for row in rows if row["id"] == name
    ]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == sorted(set(scores))
    if run == "tokens":
        assert all(len(result) == len(units[name]) for name, result in results(tasks).items())


@of("multi_label", "tokens", "masks")
def test_a_whole_example_of_a_queue_has_all_of_its_units(client: httpx.Client, run: str) -> None:
    rows = make_queue(client, strategy="random", budget=3)
    tasks = {task["data"]["external_id"]: task for task in export(client, "label-studio", queue="q").json()}
    assert list(tasks) == [row["id"] for row in rows]
    expected = units(client)
    for name, task in tasks.items():
        found = [json.dumps(unit["unit"]) for unit in task["data"]["units"]]
        assert sorted(found) == sorted(json.dumps(unit["unit"]) for unit in expected[name])
    (cells,) = [
        cells for cells in csv.DictReader(io.StringIO(export(client, "csv", queue="q").text)) if cells["rank"] == "1"
    ]
    assert [cells[name] for name in ("unit", "box", "target", "given_label")] == [""] * 4


@of("masks")
def test_an_example_that_was_deleted_since_has_no_region(client: httpx.Client, run: str) -> None:
    make_queue(client, strategy="top_loss", budget=4)
    client.delete(f"{RUN}/epochs/0/batches/b").raise_for_status()
    for format in ("label-studio", "fiftyone", "csv"):
        content = export(client, format, queue="q")
        if format == "label-studio":
            assert all(not result for result in results(content.json()).values())


def test_a_mask_that_was_sent_as_a_histogram_has_no_suggestion(loss_client: LossClient) -> None:
    run = loss_client.put_run("histograms", task="masks")
    batch = {"logits": mask_logits.astype(np.float32), "targets": given_masks, "ids": list("abcd")}
    run.push(0, "all", batch, reduce="histogram")
    tasks = json.loads(run.export(format="label-studio"))
    assert results(tasks) == {name: [] for name in "abcd"}
    labels = json.loads(run.export(format="fiftyone"))["labels"]
    assert [label["mask"] for label in labels.values()] == [None] * 4
    assert len(run.export(format="jsonl", units=False).splitlines()) == 4
    assert run.export(format="jsonl") == b""


def test_a_tool_shows_a_thousand_labels(client: httpx.Client) -> None:
    assert client.put(RUN, json={"task": "multi_label", "config": {"mode": "sigmoid"}}).status_code == 201
    body = {"logits": [[1.0] * 1001], "targets": [[0] * 1001], "ids": ["a"]}
    assert client.put(f"{RUN}/epochs/0/batches/b", json=body).status_code == 201
    for name in ("label-studio", "argilla", "fiftyone"):
        for path in ("export", "export/preview"):
            reply = client.get(f"{RUN}/{path}", params={"format": name})
            assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
            assert "1001 labels" in reply.json()["detail"]
    assert client.get(f"{RUN}/export", params={"format": "csv"}).status_code == 200
    client.delete(RUN)
