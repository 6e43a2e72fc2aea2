"""Contract section 4 with the public Triton client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from service.schema.request import ELEMENT_OUTPUTS, OUTPUTS
from tests.live.server_process import ServerProcess

ROWS, CLASSES = 12, 5
RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((ROWS, CLASSES)) * 3).astype(np.float32)
TARGETS = RNG.integers(0, CLASSES, ROWS)


@pytest.fixture
def model(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    connected = triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=1)
    yield connected
    connected.close()


def inputs_of(
    logits: Any = LOGITS,
    targets: Any = TARGETS,
    datatype: str = "FP32",
    target_type: str = "INT64",
    binary: bool = True,
) -> list[Any]:
    sent = triton.InferInput("logits", list(logits.shape), datatype)
    sent.set_data_from_numpy(logits, binary_data=binary)
    target = triton.InferInput("targets", list(targets.shape), target_type)
    target.set_data_from_numpy(targets, binary_data=binary)
    return [sent, target]


def expected(client: httpx.Client, logits: Any = LOGITS, **fields: Any) -> dict[str, Any]:
    body = {"logits": logits.tolist(), "targets": TARGETS.tolist(), "outputs": list(OUTPUTS), **fields}
    reply = client.post("/loss", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_health_and_metadata(model: triton.InferenceServerClient, client: httpx.Client) -> None:
    assert model.is_server_live()
    assert model.is_server_ready()
    assert model.is_model_ready("focal_loss")
    assert model.is_model_ready("focal_loss", "1")
    assert not model.is_model_ready("focal_loss", "2")
    assert not model.is_model_ready("unknown")
    assert "binary_tensor_data" in model.get_server_metadata()["extensions"]
    metadata = model.get_model_metadata("focal_loss")
    assert metadata["versions"] == ["1"]
    assert {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]} == {"logits": [-1, -1], "targets": [-1]}
    outputs = {tensor["name"] for tensor in metadata["outputs"]}
    assert outputs == {*OUTPUTS, "per_example_loss", *(f"per_element.{name}" for name in ELEMENT_OUTPUTS)}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    config_id = client.put("/configs", json={"gamma": 1.125}).json()["config_id"]
    assert model.is_model_ready(config_id)
    assert model.get_model_metadata(config_id, "1")["name"] == config_id


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_gives_what_post_loss_gives(
    model: triton.InferenceServerClient, client: httpx.Client, binary_in: bool, binary_out: bool
) -> None:
    names = ["loss", "per_example_loss", *(name for name in OUTPUTS if name != "loss")]
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in reversed(names)]
    result = model.infer(
        "focal_loss",
        inputs_of(binary=binary_in),
        outputs=wanted,
        request_id="mine",
        parameters={"config": '{"gamma": 1}'},
    )
    response = result.get_response()
    assert [output["name"] for output in response["outputs"]] == names[::-1]
    assert (response["model_name"], response["model_version"], response["id"]) == ("focal_loss", "1", "mine")
    answer = expected(client, config={"gamma": 1})
    assert response["parameters"]["config_id"] == answer["config_id"]
    assert result.as_numpy("loss").tolist() == pytest.approx([answer["loss"]], rel=1e-6)
    for name, values in answer["batches"][0]["per_example"].items():
        got = result.as_numpy("per_example_loss" if name == "loss" else name)
        assert got.dtype == (np.int64 if name in ("prediction", "num_valid") else np.float32)
        assert got.tolist() == pytest.approx(values, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP16", np.float16), ("BF16", ml_dtypes.bfloat16), ("FP32", np.float32), ("FP64", np.float64)],
)
@pytest.mark.parametrize(
    ("target_type", "target_dtype"), [("INT32", np.int32), ("INT64", np.int64), ("UINT8", np.uint8)]
)
def test_every_datatype_is_taken(
    model: triton.InferenceServerClient,
    client: httpx.Client,
    datatype: str,
    dtype: Any,
    target_type: str,
    target_dtype: Any,
) -> None:
    logits = LOGITS.astype(dtype)
    result = model.infer("focal_loss", inputs_of(logits, TARGETS.astype(target_dtype), datatype, target_type))
    assert result.as_numpy("loss")[0] == pytest.approx(expected(client, logits.astype(np.float64))["loss"], rel=1e-5)
    assert [output["name"] for output in result.get_response()["outputs"]] == [
        "loss",
        "per_example_loss",
        "contribution",
    ]


def test_a_config_id_is_a_model_and_a_parameter(model: triton.InferenceServerClient, client: httpx.Client) -> None:
    config_id = client.put("/configs", json={"gamma": 0.75, "reduction": "sum"}).json()["config_id"]
    answer = expected(client, config_id=config_id)["loss"]
    assert model.infer(config_id, inputs_of()).as_numpy("loss")[0] == pytest.approx(answer, rel=1e-6)
    by_parameter = model.infer("focal_loss", inputs_of(), parameters={"config_id": config_id})
    assert by_parameter.as_numpy("loss")[0] == pytest.approx(answer, rel=1e-6)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_bodies_in_both_directions(
    model: triton.InferenceServerClient, client: httpx.Client, algorithm: str
) -> None:
    result = model.infer(
        "focal_loss",
        inputs_of(),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert result.as_numpy("loss")[0] == pytest.approx(expected(client)["loss"], rel=1e-6)


def test_an_empty_batch_is_valid(model: triton.InferenceServerClient) -> None:
    empty = inputs_of(np.empty((0, 3), np.float32), np.empty((0,), np.int64))
    result = model.infer("focal_loss", empty)
    assert np.isnan(result.as_numpy("loss")[0])
    assert result.as_numpy("contribution").shape == (0,)


@pytest.mark.parametrize("binary", [True, False])
def test_a_mask(model: triton.InferenceServerClient, client: httpx.Client, binary: bool) -> None:
    logits = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    targets = RNG.integers(0, 3, (2, 4, 5))
    targets[0, :2] = -100
    options = {"layout": "dense", "divisor": 7.5, "within": {"top_share": 0.5}, "top_regions": 2}
    elements, examples = ["loss", "prediction"], ["num_valid", "label_quality", "max_loss"]
    result = model.infer(
        "focal_loss",
        inputs_of(logits, targets, binary=binary),
        outputs=[
            triton.InferRequestedOutput(name, binary_data=binary)
            for name in ("loss", *examples, *(f"per_element.{name}" for name in elements))
        ],
        parameters=options | {"within": json.dumps(options["within"])},
    )
    body = options | {"outputs": [*examples, "regions"], "elements": elements}
    answer = client.post("/loss", json=body | {"logits": logits.tolist(), "targets": targets.tolist()}).json()
    (batch,) = answer["batches"]
    assert result.as_numpy("loss").tolist() == pytest.approx([answer["loss"]], rel=1e-5)
    for name in examples:
        assert result.as_numpy(name).tolist() == pytest.approx(batch["per_example"][name], rel=1e-5)
    for name in elements:
        got = result.as_numpy(f"per_element.{name}")
        assert got.shape == targets.shape
        null = -1 if name == "prediction" else np.nan
        expected_values = [null if value is None else value for value in np.ravel(batch["per_element"][name])]
        assert got.ravel().tolist() == pytest.approx(expected_values, rel=1e-4, abs=1e-7, nan_ok=True)
    parameters = result.get_response()["parameters"]
    assert parameters["num_elements"] == answer["num_elements"] == 30
    regions = [region for example in json.loads(parameters["regions"]) for region in example]
    in_json = [region for example in batch["per_example"]["regions"] for region in example]
    assert [region["box"] for region in regions] == [region["box"] for region in in_json]


@pytest.mark.parametrize("binary", [True, False])
def test_a_sentence(model: triton.InferenceServerClient, client: httpx.Client, binary: bool) -> None:
    offsets = np.array([0, 3, 3, 12])
    sent = triton.InferInput("offsets", [4], "INT64")
    sent.set_data_from_numpy(offsets, binary_data=binary)
    result = model.infer(
        "focal_loss", [*inputs_of(binary=binary), sent], parameters={"layout": "ragged", "within": "sum"}
    )
    lists = {
        name: [values[start:stop].tolist() for start, stop in pairwise(offsets)]
        for name, values in (("logits", LOGITS), ("targets", TARGETS))
    }
    answer = client.post("/loss", json={"layout": "ragged", "within": "sum", **lists}).json()
    assert result.as_numpy("loss").tolist() == pytest.approx([answer["loss"]], rel=1e-5)
    expected_losses = answer["batches"][0]["per_example"]["loss"]
    assert expected_losses[1] == 0
    assert result.as_numpy("per_example_loss").tolist() == pytest.approx(expected_losses, rel=1e-5)


def test_sigmoid_and_ignored_rows(model: triton.InferenceServerClient) -> None:
    labels = np.array([[1.0, 0.0], [-100.0, 1.0]], np.float32)
    sent = inputs_of(np.array([[2.0, -1.0], [0.5, 0.1]], np.float32), labels, target_type="FP32")
    wanted = [triton.InferRequestedOutput("prediction", binary_data=False), triton.InferRequestedOutput("p_t")]
    result = model.infer("focal_loss", sent, outputs=wanted, parameters={"config": '{"mode": "sigmoid"}'})
    prediction = result.get_response()["outputs"][0]
    assert (prediction["shape"], prediction["data"]) == ([2, 2], [1, 0, -1, 1])
    assert result.as_numpy("prediction").tolist() == [[1, 0], [-1, 1]]
    assert result.as_numpy("p_t").shape == (2,)


@pytest.mark.parametrize("binary", [True, False])
def test_ignored_rows_come_as_arrays_in_both_forms(model: triton.InferenceServerClient, binary: bool) -> None:
    targets = TARGETS.copy()
    targets[0] = -100
    names = ("loss", "per_example_loss", "p_t", "prediction")
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = model.infer(
        "focal_loss", inputs_of(targets=targets), outputs=wanted, parameters={"config": '{"reduction": "none"}'}
    )
    assert np.isnan(result.as_numpy("loss")).tolist() == [True]
    assert result.as_numpy("per_example_loss")[0] == 0
    assert np.isnan(result.as_numpy("p_t")).tolist() == [True] + [False] * (ROWS - 1)
    assert result.as_numpy("prediction").tolist() == [-1, *LOGITS.argmax(1)[1:]]


def test_the_hardest_and_the_excluded_rows_are_named(model: triton.InferenceServerClient, client: httpx.Client) -> None:
    logits = LOGITS.copy()
    logits[4, 1] = np.nan
    options = {"top_k": 3, "on_invalid": "exclude"}
    parameters = model.infer("focal_loss", inputs_of(logits), parameters=options).get_response()["parameters"]
    assert (parameters["num_examples"], parameters["num_ignored"], parameters["num_excluded"]) == (ROWS, 0, 1)
    assert [row["index"] for row in json.loads(parameters["excluded"])] == [4]
    without = [row for row in expected(client, top_k=4)["hardest"] if row["index"] != 4]
    hardest = json.loads(parameters["hardest"])
    assert [row["index"] for row in hardest] == [row["index"] for row in without[:3]]


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1.5", "", "999999999999"])
def test_a_header_length_that_is_none_is_refused(client: httpx.Client, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    reply = client.post("/v2/models/focal_loss/infer", content=b"{}", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed_body")
    assert "Inference-Header-Content-Length" in reply.json()["error"]


def test_infer_is_timed_as_post_loss_is(client: httpx.Client) -> None:
    entries = [
        {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        {"name": "targets", "datatype": "INT64", "shape": [1], "data": [0]},
    ]
    reply = client.post("/v2/models/focal_loss/infer", content=json.dumps({"inputs": entries}))
    phases = [phase.partition(";")[0] for phase in reply.headers["server-timing"].split(", ")]
    assert phases == ["receive", "queue", "decode", "compute", "encode"]
    assert reply.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("sent", "options", "status", "says"),
    [
        (inputs_of(targets=np.full(ROWS, 9)), {}, "422", "batch 0, row 0: target 9"),
        (inputs_of(logits=np.full((ROWS, 5), np.nan, np.float32)), {}, "422", "logit NaN"),
        (inputs_of(targets=TARGETS[:-1]), {}, "422", "11 targets for 12 rows"),
        (inputs_of(), {"outputs": [triton.InferRequestedOutput("margin")]}, "422", "unknown output 'margin'"),
        (inputs_of(), {"parameters": {"config": '{"gamma": -1}'}}, "422", "gamma"),
        (inputs_of(), {"parameters": {"gamma": 1}}, "422", "unknown parameter 'gamma'"),
        (inputs_of(), {"parameters": {"config_id": "fl_0"}}, "404", "fl_0"),
        (inputs_of()[:1], {}, "422", "input targets missing"),
        (inputs_of(), {"outputs": [triton.InferRequestedOutput("loss", class_count=2)]}, "400", "classification"),
        (inputs_of(logits=np.full((ROWS, 5), np.nan, np.float32), binary=False), {}, "400", "binary"),
    ],
)
def test_the_client_shows_what_is_wrong(
    model: triton.InferenceServerClient, sent: Any, options: Any, status: str, says: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        model.infer("focal_loss", sent, **options)
    assert raised.value.status() == status
    assert says in raised.value.message()


def test_unknown_models_and_versions_are_named(model: triton.InferenceServerClient) -> None:
    for name, version in (("other", ""), ("focal_loss", "7")):
        with pytest.raises(InferenceServerException) as raised:
            model.infer(name, inputs_of(), model_version=version)
        assert raised.value.status() == "404"
        assert name in raised.value.message()


def test_every_error_has_a_text_and_is_a_problem(client: httpx.Client) -> None:
    for reply in (
        client.get("/v2/nowhere"),
        client.get("/v2/models/focal_loss/infer"),
        client.get("/v2/models/other"),
        client.post("/v2/models/focal_loss/infer", content=b"{"),
        client.post("/v2/models/focal_loss/infer", content=b"", headers={"Inference-Header-Content-Length": "0"}),
    ):
        assert reply.status_code in (400, 404, 405)
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert isinstance(problem["error"], str)
        assert problem["code"]
    assert "error" not in client.get("/nowhere").json()


def test_json_replies_have_their_type_and_binary_ones_their_length(client: httpx.Client) -> None:
    entries = [
        {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2]]},
        {"name": "targets", "datatype": "INT64", "shape": [1], "data": [0]},
    ]
    plain = client.post("/v2/models/focal_loss/infer", content=json.dumps({"inputs": entries}))
    assert plain.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in plain.headers
    binary = client.post(
        "/v2/models/focal_loss/infer",
        content=json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}),
        headers={"Accept-Encoding": "gzip, deflate, br"},
    )
    assert binary.headers["content-type"] == "application/octet-stream"
    assert "content-encoding" not in binary.headers
    length = int(binary.headers["inference-header-content-length"])
    header = json.loads(binary.content[:length])
    assert sum(output["parameters"]["binary_data_size"] for output in header["outputs"]) == len(binary.content) - length


def test_many_threads_with_clients_of_their_own(server: ServerProcess, client: httpx.Client) -> None:
    answer, results = expected(client)["loss"], []

    def work() -> None:
        mine = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        results.extend(mine.infer("focal_loss", inputs_of()).as_numpy("loss")[0] for _ in range(20))
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == pytest.approx([answer] * 120, rel=1e-6)


def test_the_asynchronous_client(server: ServerProcess, client: httpx.Client) -> None:
    async def infer_all() -> list[float]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as model:
            assert await model.is_server_ready()
            assert (await model.get_model_metadata("focal_loss"))["name"] == "focal_loss"
            calls = [model.infer("focal_loss", inputs_of()) for _ in range(20)]
            calls += [model.infer("focal_loss", inputs_of(), response_compression_algorithm="gzip")]
            results = await asyncio.gather(*calls)
            with pytest.raises(InferenceServerException, match="target 9"):
                await model.infer("focal_loss", inputs_of(targets=np.full(ROWS, 9)))
            return [result.as_numpy("loss")[0] for result in results]

    assert asyncio.run(infer_all()) == pytest.approx([expected(client)["loss"]] * 21, rel=1e-6)
