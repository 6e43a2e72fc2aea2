"""Worst requests that the types of a route cannot say: tensors, relations between members, and stored data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from service.api.http.tensor_docs import SAFETENSORS
from service.api.http.tensor_examples import parquet_bytes
from service.exports.corrected.files import FORMATS as CORRECTED_FORMATS
from service.exports.formats import FORMATS
from service.mining.requests import MAX_BUDGET
from service.tool_reviews.annotation import MAX_ANNOTATIONS
from tests.bounds.review_bodies import post_reviews
from tests.bounds.stored_runs import RUNS, TASKS, structured_batches
from tests.bounds.structured_bodies import structured_bodies, structured_infer_bodies
from tests.bounds.tensor_bodies import infer_bodies, loss_bodies
from tests.bounds.worst_request import JSON, NEW, Make, WorstRequest, json_request


def _post_loss(size: int) -> Iterator[WorstRequest]:
    yield from loss_bodies("POST", "/loss", size, stored=False)
    yield from structured_bodies("/loss", size)


def _put_batch(size: int) -> Iterator[WorstRequest]:
    run = json_request("PUT", "run", f"/runs/{NEW}", {})
    for request in loss_bodies("PUT", f"/runs/{NEW}/epochs/0/batches/b", size, stored=True):
        yield replace(request, before=(run,))
    for name, description in TASKS.items():
        run = json_request("PUT", "run", f"/runs/{NEW}", description)
        for kind, body in structured_batches(name, size):
            headers = {"Content-Type": SAFETENSORS}
            path = f"/runs/{NEW}/epochs/0/batches/b"
            yield WorstRequest("PUT", f"{name}: {kind}", path, body, headers, before=(run,))


def _put_config(size: int) -> Iterator[WorstRequest]:
    yield json_request("PUT", "effective counts", "/configs", {"alpha": _counts(size)})
    yield json_request("PUT", "weights", "/configs", {"alpha": [1.5] * (size // 4)})


def _counts(size: int) -> dict[str, Any]:
    return {"class_counts": [3] * (size // 2), "scheme": "effective"}


def _list_configs(size: int) -> Iterator[WorstRequest]:
    before = tuple(
        json_request("PUT", "weights", "/configs", {"alpha": [1.5 + number] * (size // 4)}) for number in range(12)
    )
    yield WorstRequest("GET", "large configurations", "/configs", before=before)


def _put_run(size: int) -> Iterator[WorstRequest]:
    count = size // 10
    names = [f"n{number:06}" for number in range(count)]
    path = f"/runs/{NEW}"
    yield json_request("PUT", "class names", path, {"class_names": names})
    yield json_request("PUT", "a class name twice", path, {"class_names": [*names, "x", "x"]})
    yield json_request("PUT", "weights", path, {"config": {"alpha": [1.0] * (size // 4)}})
    yield json_request("PUT", "counts", path, {"config": {"alpha": _counts(size)}})


def _runs(template: str, *queries: str) -> Make:
    """Each stored run, by each query."""

    def requests(size: int) -> Iterator[WorstRequest]:
        for run in RUNS:
            for query in ("", *queries):
                yield WorstRequest("GET", f"run of {run} {query}", template.replace("RUN", run) + query)

    return requests


def _with_itself(what: str) -> Make:
    """Each stored run and itself."""

    def requests(size: int) -> Iterator[WorstRequest]:
        for run in RUNS:
            yield WorstRequest("GET", f"run of {run} with itself", f"/runs/{run}/{what}/{run}")

    return requests


def _post_queue(size: int) -> Iterator[WorstRequest]:
    path = "/runs/rows/queues"
    everything = {"strategy": "top_loss", "budget": MAX_BUDGET, "exclude_reviewed": False, "name": NEW}
    ids = [f"{number:07}" for number in range(min(MAX_BUDGET, size // 10))]
    for name, members in {
        "all rows": {},
        "ids": {"only": {"ids": ids}},
        "attributes": {"only": {"attributes": {f"a{number}": "x" for number in range(size // 12)}}},
        "few attributes": {"only": {"attributes": {f"a{number}": "x" for number in range(100)}}},
        "ranges": {"only": {"ranges": {f"r{number}": [0, 1] for number in range(size // 20)}}},
        "quotas": {"per_class": {str(number): 0 for number in range(size // 12)}},
        "a cap": {"at_most": {"attribute": "group", "count": 1}},
        "hidden parts": {"overlap": 500, "blind": True, "without_suggestion": 1, "gold": 0.5},
    }.items():
        yield json_request("POST", name, path, everything | members)
    for run in RUNS:
        ranked = ("suspected_errors", "adjusted_margin", "area_under_margin", "semi_hard", "random", "active_lab")
        for strategy in ranked:
            queue = everything | {"strategy": strategy}
            yield json_request("POST", f"{strategy} of the run of {run}", f"/runs/{run}/queues", queue)


def _lease_rows(size: int) -> Iterator[WorstRequest]:
    path = "/runs/rows/queues/queue/next?limit=100"
    yield WorstRequest("POST", "no name", path)
    others = [WorstRequest("POST", "others", f"{path}&reviewer={number}") for number in range(20)]
    yield WorstRequest("POST", "after others", f"{path}&reviewer={'x' * 200}", before=tuple(others))


def _rename_queue(size: int) -> Iterator[WorstRequest]:
    everything = {"strategy": "top_loss", "budget": MAX_BUDGET, "exclude_reviewed": False, "name": NEW}
    queue = json_request("POST", "queue", "/runs/rows/queues", everything)
    rename = json_request("PATCH", "all rows", f"/runs/rows/queues/{NEW}", {"name": f"{NEW}-renamed"})
    yield replace(rename, before=(queue,))


def _put_annotations(size: int) -> Iterator[WorstRequest]:
    path, header, rows = "/runs/rows/annotations", "id,annotator,label\n", size // 60
    bodies = {
        "rows": "".join(f"{row % rows},b{row // rows},{'abc'[row % 3]}\n" for row in range(size // 8)),
        "annotators": "".join(f"0,c{number},1\n" for number in range(size // 12)),
        "the same row": "1,d,1\n" * (size // 6),
        "unknown ids": "x,e,1\n" * (size // 6),
        "unknown names": "".join(f"1,f,n{number}\n" for number in range(size // 12)),
        "a long name": f"1,{'g' * size},1\n",
        "empty rows": ",,\n" * (size // 3),
    }
    for name, body in bodies.items():
        yield WorstRequest("PUT", name, path, (header + body).encode(), {"Content-Type": "text/csv"})
    annotations = [{"id": str(number % rows), "annotator": number // rows, "label": 1} for number in range(size // 40)]
    yield json_request("PUT", "JSON rows", path, annotations)
    codes = pa.DictionaryArray.from_arrays(np.zeros(size, np.int32), pa.array(["0"]))
    table = pa.table({"id": codes, "annotator": codes, "label": np.zeros(size, np.int8)})
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    yield WorstRequest("PUT", "equal rows of Parquet", path, parquet_bytes(table), headers)


def _post_predict(size: int) -> Iterator[WorstRequest]:
    path = "/runs/rows/label-studio/predict"
    task = {"data": {"external_id": "1"}}
    yield json_request("POST", "tasks", path, {"tasks": [task] * (size // 32)})
    yield json_request("POST", "empty lists", path, {"tasks": [[]] * (size // 3)})
    yield json_request("POST", "empty objects", path, {"tasks": [{}] * (size // 3)})
    nested = "<a>" * (size // 7) + "</a>" * (size // 7)
    flat = "<View>" + "<a/>" * (size // 4) + "</View>"
    attributes = "<View " + " ".join(f"a{number}=''" for number in range(size // 10)) + "/>"
    entities = "<!DOCTYPE a [<!ENTITY x 'xxxxxxxxxx'>]><a>" + "&x;" * (size // 3) + "</a>"
    for name, xml in (("nested", nested), ("flat", flat), ("attributes", attributes), ("entities", entities)):
        yield json_request("POST", f"{name} XML", path, {"tasks": [task], "label_config": xml})


def _label_studio_events(size: int) -> Iterator[WorstRequest]:
    """Many annotations in one event: of many examples, of one, of none, with many labels each, and their deletions."""

    def event(name: str, run: str, annotations: list[Any], tasks: list[Any]) -> WorstRequest:
        body = {"action": "ANNOTATIONS_CREATED", "annotation": annotations, "task": tasks, "project": {"id": 1}}
        return json_request("POST", name, f"/runs/{run}/label-studio/webhook", body)

    def annotation(number: int, task: int, label: str, user: int = 1) -> dict[str, Any]:
        result = [{"from_name": "label", "type": "choices", "value": {"choices": [label]}}] if label else []
        return {"id": number, "task": task, "project": 1, "completed_by": user, "result": result}

    count = min(MAX_ANNOTATIONS, size // 250)
    tasks = [{"id": task, "data": {"external_id": str(task)}} for task in range(count)]
    yield event("examples", "rows", [annotation(task, task, "b") for task in range(count)], tasks)
    yield event("one example", "rows", [annotation(task, 0, "b") for task in range(count)], tasks[:1])
    yield event("no choices", "rows", [annotation(task, 0, "") for task in range(count)], tasks[:1])
    yield event("reviewers", "rows", [annotation(task, 0, "b", task) for task in range(count)], tasks[:1])
    yield event("unknown examples", "rows", [{"id": number} for number in range(min(MAX_ANNOTATIONS, size // 10))], [])
    yield event("too many", "rows", [{}] * (size // 3), [])
    wide = [annotation(number, number % 100, "0") for number in range(count)]
    for run in ("labels", "wide-labels"):
        examples = [{"id": task, "data": {"external_id": f"rows {task}"}} for task in range(100)]
        yield event("labels", run, wide, examples)
    deletions = [{"id": number} for number in range(min(MAX_ANNOTATIONS, size // 12))]
    body = {"action": "ANNOTATIONS_DELETED", "annotations": deletions, "project": {"id": 1}}
    yield json_request("POST", "deletions", "/runs/rows/label-studio/webhook", body)


def _argilla_events(size: int) -> Iterator[WorstRequest]:
    """A service without the secret reads no body."""
    yield json_request("POST", "unsigned", "/runs/rows/argilla/webhook", {"type": "x" * size})


def _infer(path: str) -> Make:
    return lambda size: chain(infer_bodies(path, size), structured_infer_bodies(path, size))


def _files(path: str) -> Make:
    def requests(size: int) -> Iterator[WorstRequest]:
        for name in (
            "",
            "x" * min(size, 60_000),
            "%2e%2e/" * (min(size, 60_000) // 7),
            "a/" * (min(size, 60_000) // 2),
        ):
            yield WorstRequest("GET", "file", f"{path}/{name}")

    return requests


def _get(path: str) -> Make:
    return lambda size: iter([WorstRequest("GET", "plain", path)])


def _session(size: int) -> Iterator[WorstRequest]:
    yield json_request("POST", "long key", "/session", {"key": "x" * size})
    yield json_request("POST", "longest key", "/session", {"key": "x" * 4_000})
    yield WorstRequest("POST", "deep", "/session", b"[" * 4_000, JSON)


def _delete(path: str) -> Make:
    """Delete a part of a run, or all of it."""

    def requests(size: int) -> Iterator[WorstRequest]:
        run = json_request("PUT", "run", f"/runs/{NEW}", {"display": {"a": "x" * min(size, 60_000)}})
        rows = min(size // 30, 10_000)
        batch = {"logits": [[0.5, 0.5]] * rows, "targets": [0] * rows, "ids": list(range(rows))}
        small = {name: values[:1] for name, values in batch.items()}
        batches = [
            json_request("PUT", "batch", f"/runs/{NEW}/epochs/{epoch}/batches/b", small) for epoch in range(1, 20)
        ]
        large = json_request("PUT", "batch", f"/runs/{NEW}/epochs/0/batches/b", batch)
        yield WorstRequest("DELETE", "epochs", path, before=(run, large, *batches))

    return requests


BY_HAND: Mapping[str, Make] = {
    "POST /loss": _post_loss,
    "PUT /configs": _put_config,
    "GET /configs": _list_configs,
    "PUT /runs/{run}": _put_run,
    "DELETE /runs/{run}": _delete(f"/runs/{NEW}"),
    "DELETE /runs/{run}/epochs/{epoch}": _delete(f"/runs/{NEW}/epochs/0"),
    "DELETE /runs/{run}/epochs/{epoch}/batches/{batch}": _delete(f"/runs/{NEW}/epochs/0/batches/b"),
    "PUT /runs/{run}/epochs/{epoch}/batches/{batch}": _put_batch,
    "GET /runs/{run}": _runs("/runs/RUN"),
    "GET /runs/{run}/examples": _runs(
        "/runs/RUN/examples", "?limit=100000", "?limit=100000&sort=-entropy,id", "?alpha=none&gamma=1"
    ),
    "GET /runs/{run}/examples/{example_id}": _runs("/runs/RUN/examples/0", "?gamma=1"),
    "GET /runs/{run}/diagnostics": _runs("/runs/RUN/diagnostics", "?gamma=3"),
    "GET /runs/{run}/dynamics": _runs("/runs/RUN/dynamics", "?limit=100000&bins=100", "?gamma=1"),
    "GET /runs/{run}/compare/{other}": _with_itself("compare"),
    "GET /runs/{run}/gain/{other}": _with_itself("gain"),
    "GET /runs/{run}/agreement": _runs("/runs/RUN/agreement", "?limit=1000"),
    "GET /runs/{run}/remaining": _runs("/runs/RUN/remaining", "?rows=10000"),
    "POST /runs/{run}/queues": _post_queue,
    "PATCH /runs/{run}/queues/{queue_name}": _rename_queue,
    "GET /runs/{run}/queues/{queue_name}": lambda size: iter(
        [WorstRequest("GET", "all rows", "/runs/rows/queues/queue?limit=100000&facets=true")]
    ),
    "POST /runs/{run}/queues/{queue_name}/next": _lease_rows,
    "POST /runs/{run}/reviews": post_reviews,
    "PUT /runs/{run}/annotations": _put_annotations,
    "GET /runs/{run}/consensus": _runs("/runs/RUN/consensus", "?limit=100000", "?limit=100000&reviewers=true"),
    "GET /runs/{run}/export": _runs("/runs/RUN/export", *(f"?format={name}" for name in FORMATS)),
    "GET /runs/{run}/export/preview": _runs(
        "/runs/RUN/export/preview", *(f"?rows=20&format={name}" for name in FORMATS)
    ),
    "GET /runs/{run}/corrected": _runs(
        "/runs/RUN/corrected", *(f"?format={name}" for name in CORRECTED_FORMATS), "?policy=consensus", "?policy=auto"
    ),
    "POST /runs/{run}/label-studio/predict": _post_predict,
    "POST /runs/{run}/label-studio/webhook": _label_studio_events,
    "POST /runs/{run}/argilla/webhook": _argilla_events,
    "POST /v2/models/{model}/infer": _infer("/v2/models/focal_loss/infer"),
    "POST /v2/models/{model}/versions/{version}/infer": _infer("/v2/models/focal_loss/versions/1/infer"),
    "GET /": _get("/"),
    "GET /docs": _get("/docs"),
    "GET /openapi.json": _get("/openapi.json"),
    "GET /docs/assets": _files("/docs/assets"),
    "GET /web": _files("/web"),
    "GET /session": _get("/session"),
    "POST /session": _session,
    "DELETE /session": lambda size: iter([WorstRequest("DELETE", "plain", "/session")]),
}
