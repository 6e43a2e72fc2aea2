"""Contract sections 1 and 2: what `POST /loss` computes and answers, in both formats."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from service.schema.request import OUTPUTS

SAFETENSORS = {"Content-Type": "application/x-safetensors"}
EXAMPLE = {
    "config": {"alpha": [1.0, 2.0, 4.0], "gamma": 2.0},
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]],
    "targets": [0, 1],
    "ids": ["a", "b"],
    "outputs": ["loss", "contribution", "p_t", "prediction"],
    "top_k": 1,
}


def post(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = client.post("/loss", json=fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


def metadata_of(body: bytes) -> dict[str, str]:
    length = int.from_bytes(body[:8], "little")
    return json.loads(body[8 : 8 + length])["__metadata__"]


def post_safetensors(
    client: httpx.Client, body: bytes, **headers: str
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    reply = client.post("/loss", content=body, headers=SAFETENSORS | headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-safetensors"
    return load(reply.content), metadata_of(reply.content)


def random_batch(rows: int = 50, classes: int = 7, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((rows, classes)) * 4).astype(np.float32)
    return logits, rng.integers(0, classes, rows)


def test_the_contracts_example_gives_the_contracts_answer(client: httpx.Client) -> None:
    reply = post(client, **EXAMPLE)
    assert reply["config_id"].startswith("fl_")
    assert len(reply["config_id"]) == 19
    assert reply["device"] in ("cpu", "cuda:0")
    assert reply["loss"] == pytest.approx(0.81418, abs=5e-6)
    assert (reply["num_examples"], reply["num_ignored"]) == (2, 0)
    (batch,) = reply["batches"]
    assert batch["loss"] == pytest.approx(0.81418, abs=5e-6)
    assert batch["loss_sum"] == pytest.approx(1.62836, abs=5e-6)
    assert batch["alpha_sum"] == 3.0
    assert batch["per_example"]["loss"] == pytest.approx([0.0050225, 1.6233421], abs=5e-8)
    assert batch["per_example"]["contribution"] == pytest.approx([0.0025112, 0.8116711], abs=5e-8)
    assert batch["per_example"]["p_t"] == pytest.approx([0.8337810, 0.2427819], abs=5e-8)
    assert batch["per_example"]["prediction"] == [0, 2]
    (hard,) = reply["hardest"]
    assert (hard["batch"], hard["index"], hard["id"]) == (0, 1, "b")
    assert hard["loss"] == pytest.approx(1.6233421, abs=5e-8)
    assert hard["contribution"] == pytest.approx(0.8116711, abs=5e-8)


def test_safetensors_answers_the_same_with_tensors(client: httpx.Client) -> None:
    body = save_numpy(
        {"logits": np.array(EXAMPLE["logits"], np.float32), "targets": np.array([0, 1])},
        {"request": json.dumps({name: EXAMPLE[name] for name in ("config", "outputs", "top_k", "ids")})},
    )
    tensors, metadata = post_safetensors(client, body)
    assert tensors["loss"].shape == ()
    assert tensors["loss"] == pytest.approx(0.81418, abs=5e-6)
    assert tensors["batch_loss"].tolist() == [tensors["loss"]]
    assert tensors["batch_num_examples"].tolist() == [2]
    assert tensors["per_example.loss"].dtype == np.float32
    assert tensors["per_example.loss"].tolist() == pytest.approx([0.0050225, 1.6233421], abs=5e-7)
    assert tensors["per_example.prediction"].tolist() == [0, 2]
    assert metadata["config_id"] == post(client, **EXAMPLE)["config_id"]
    assert metadata["device"] in ("cpu", "cuda:0")
    (hard,) = json.loads(metadata["hardest"])
    assert hard["id"] == "b"


@pytest.mark.parametrize("logit_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("target_dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_safetensors_takes_every_dtype_of_the_contract(
    client: httpx.Client, logit_dtype: torch.dtype, target_dtype: torch.dtype
) -> None:
    logits, targets = (torch.from_numpy(array) for array in random_batch())
    stored = logits.to(logit_dtype)
    tensors, _ = post_safetensors(client, save_torch({"logits": stored, "targets": targets.to(target_dtype)}))
    p_t = stored.double().softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
    expected = ((1 - p_t) ** 2 * -p_t.log()).mean().item()
    assert tensors["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert tensors["per_example.loss"].dtype == (np.float64 if logit_dtype == torch.float64 else np.float32)


def test_safetensors_with_numbered_batches_keeps_their_order(client: httpx.Client) -> None:
    batches = [random_batch(rows, seed=rows) for rows in (3, 1, 20, 5, 2, 2, 2, 2, 2, 2, 2, 9)]
    tensors = {}
    for number, (logits, targets) in enumerate(batches):
        tensors |= {f"logits.{number}": logits, f"targets.{number}": targets}
    got, _ = post_safetensors(client, save_numpy(tensors))
    assert got["batch_num_examples"].tolist() == [len(targets) for _, targets in batches]
    whole = post(
        client, batches=[{"logits": logits.tolist(), "targets": targets.tolist()} for logits, targets in batches]
    )
    assert got["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert got["batch_loss"].tolist() == pytest.approx([batch["loss"] for batch in whole["batches"]], rel=1e-6)
    flat = [loss for batch in whole["batches"] for loss in batch["per_example"]["loss"]]
    assert got["per_example.loss"].tolist() == pytest.approx(flat, rel=1e-5)


@pytest.mark.parametrize("request_type", ["application/json", "application/x-safetensors"])
@pytest.mark.parametrize("reply_type", ["application/json", "application/x-safetensors"])
def test_accept_chooses_the_format_of_the_reply(client: httpx.Client, request_type: str, reply_type: str) -> None:
    logits, targets = random_batch()
    if request_type == "application/json":
        content = json.dumps({"logits": logits.tolist(), "targets": targets.tolist()}).encode()
    else:
        content = save_numpy({"logits": logits, "targets": targets})
    accept = f"text/html;q=0.3, {reply_type};q=0.9, */*;q=0.1"
    reply = client.post("/loss", content=content, headers={"Content-Type": request_type, "Accept": accept})
    assert reply.headers["content-type"] == reply_type
    loss = reply.json()["loss"] if reply_type == "application/json" else load(reply.content)["loss"].item()
    assert loss == pytest.approx(post(client, logits=logits.tolist(), targets=targets.tolist())["loss"], rel=1e-6)


def test_query_parameters_win_over_the_body_in_every_format(client: httpx.Client) -> None:
    logits, targets = random_batch()
    config_id = client.put("/configs", json={"gamma": 0.5}).json()["config_id"]
    options = {"config": {"gamma": 5}, "outputs": ["p_t"], "top_k": 1}
    params = {"config_id": config_id, "outputs": "loss,el2n", "top_k": "3"}
    text = client.post(
        "/loss", params=params, json={**options, "logits": logits.tolist(), "targets": targets.tolist()}
    ).json()
    assert text["config_id"] == config_id
    assert list(text["batches"][0]["per_example"]) == ["loss", "el2n"]
    assert len(text["hardest"]) == 3
    body = save_numpy({"logits": logits, "targets": targets}, {"request": json.dumps(options)})
    reply = client.post("/loss", params=params, content=body, headers=SAFETENSORS)
    assert {name for name in load(reply.content) if name.startswith("per_")} == {"per_example.loss", "per_example.el2n"}
    assert metadata_of(reply.content)["config_id"] == config_id
    assert [hard["index"] for hard in json.loads(metadata_of(reply.content)["hardest"])] == [
        hard["index"] for hard in text["hardest"]
    ]


def test_every_output_comes_with_one_value_per_example(client: httpx.Client) -> None:
    logits, targets = random_batch()
    reply = post(client, logits=logits.tolist(), targets=targets.tolist(), outputs=list(OUTPUTS))
    columns = reply["batches"][0]["per_example"]
    assert list(columns) == list(OUTPUTS)
    assert {len(values) for values in columns.values()} == {50}
    z = np.array(columns["log_odds"])
    assert 1 / (1 + np.exp(-z)) == pytest.approx(columns["p_t"])
    assert columns["prediction"] == logits.argmax(1).tolist()


@pytest.mark.parametrize("alpha", [None, [0.5, 1, 2, 3, 1, 1, 4]])
def test_reductions_divide_as_the_contract_says(client: httpx.Client, alpha: list[float] | None) -> None:
    logits, targets = random_batch()
    targets[:10] = -100
    weights = np.ones(7) if alpha is None else np.array(alpha)
    losses = {}
    for reduction in ("mean", "sum", "weighted_mean", "none"):
        reply = post(
            client,
            config={"alpha": alpha, "reduction": reduction},
            logits=logits.tolist(),
            targets=targets.tolist(),
        )
        batch = reply["batches"][0]
        losses[reduction] = reply["loss"]
        assert reply["num_ignored"] == batch["num_ignored"] == 10
        assert batch["loss"] == reply["loss"]
        if reduction != "none":
            assert sum(batch["per_example"]["contribution"]) == pytest.approx(reply["loss"])
        else:
            assert batch["per_example"]["contribution"] == batch["per_example"]["loss"]
        assert batch["alpha_sum"] == pytest.approx(weights[targets[10:]].sum())
        assert batch["per_example"]["loss"][:10] == batch["per_example"]["contribution"][:10] == [0.0] * 10
    assert losses["none"] is None
    assert losses["mean"] == pytest.approx(losses["sum"] / 40)
    assert losses["weighted_mean"] == pytest.approx(losses["sum"] / weights[targets[10:]].sum())


def test_gamma_0_with_weights_is_torchs_cross_entropy(client: httpx.Client) -> None:
    logits, targets = random_batch()
    weights = [0.5, 1, 2, 3, 1, 1, 4]
    config = {"alpha": weights, "gamma": 0, "reduction": "weighted_mean", "label_smoothing": 0.1}
    reply = post(client, config=config, logits=logits.tolist(), targets=targets.tolist())
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).double(),
        torch.from_numpy(targets),
        weight=torch.tensor(weights, dtype=torch.float64),
        label_smoothing=0.1,
    )
    assert reply["loss"] == pytest.approx(expected.item())


def test_a_single_alpha_weighs_the_positive_class(client: httpx.Client) -> None:
    softmax = {"logits": [[0.0, 0.0], [0.0, 0.0]], "targets": [0, 1]}
    positive_1 = post(client, config={"alpha": 0.25}, **softmax)["batches"][0]["per_example"]["loss"]
    positive_0 = post(client, config={"alpha": 0.25, "positive_class": 0}, **softmax)["batches"][0]["per_example"]
    assert positive_1 == pytest.approx([0.75 * np.log(2) / 4, 0.25 * np.log(2) / 4])
    assert positive_0["loss"] == pytest.approx(positive_1[::-1])
    binary = {"logits": [0.0, 0.0], "targets": [0, 1]}
    sigmoid = post(client, config={"mode": "sigmoid", "alpha": 0.25}, **binary)["batches"][0]["per_example"]["loss"]
    assert sigmoid == pytest.approx(positive_1)


def test_sigmoid_takes_all_its_shapes(client: httpx.Client) -> None:
    config = {"mode": "sigmoid", "alpha": 0.25}
    outputs = ["loss", "prediction"]
    flat = post(client, config=config, outputs=outputs, logits=[1.2, -3.0], targets=[0, 1])
    column = post(client, config=config, outputs=outputs, logits=[[1.2], [-3.0]], targets=[[0], [1]])
    mixed = post(client, config=config, outputs=outputs, logits=[[1.2], [-3.0]], targets=[0, 1])
    assert flat["batches"] == column["batches"] == mixed["batches"]
    labels = post(client, config=config, outputs=outputs, logits=[[1.2, -3.0]], targets=[[0, 1]])
    assert labels["loss"] == pytest.approx(flat["loss"])
    assert labels["batches"][0]["per_example"]["prediction"] == [[1, 0]]


def test_sigmoid_marks_missing_labels_and_takes_soft_targets(client: httpx.Client) -> None:
    config = {"mode": "sigmoid", "gamma": 2}
    missing = post(client, config=config, logits=[[1.2, 5.0], [0.3, 0.2]], targets=[[0.3, -100], [-100, -100]])
    assert missing["num_ignored"] == 1
    # torchvision's form, computed in torchvision 0.29.1: BCE (1 - p_t)^2 with p_t = p y + (1 - p)(1 - y).
    assert missing["batches"][0]["per_example"]["loss"] == pytest.approx([0.407, 0.0], abs=5e-4)
    one_per_label = post(client, config={"mode": "sigmoid", "alpha": [1, 0]}, logits=[[1.0, 1.0]], targets=[[1, 1]])
    assert one_per_label["batches"][0]["alpha_sum"] == 0.5


def test_an_ignored_example_has_no_loss_and_no_prediction(client: httpx.Client) -> None:
    outputs = ["loss", "contribution", "p_t", "prediction", "log_odds"]
    reply = post(client, outputs=outputs, logits=[[1, 2], [3, 4]], targets=[-100, 0])
    scores = reply["batches"][0]["per_example"]
    assert (scores["loss"][0], scores["contribution"][0]) == (0, 0)
    assert (scores["p_t"][0], scores["prediction"][0], scores["log_odds"][0]) == (None, None, None)
    assert scores["prediction"][1] == 1
    body = save_numpy(
        {"logits": np.array([[1, 2], [3, 4]], np.float32), "targets": np.array([-100, 0])},
        {"request": json.dumps({"outputs": outputs})},
    )
    tensors, _ = post_safetensors(client, body)
    assert np.isnan(tensors["per_example.p_t"][0])
    assert tensors["per_example.prediction"].tolist() == [-1, 1]


def test_masked_classes_are_legal_off_the_target(client: httpx.Client) -> None:
    logits = np.array([[1, -np.inf, 0], [2, -np.inf, -np.inf]], np.float32)
    tensors, _ = post_safetensors(client, save_numpy({"logits": logits, "targets": np.array([0, 0])}))
    p_t = 1 / (1 + np.exp(-1))
    assert tensors["per_example.loss"].tolist() == pytest.approx([(1 - p_t) ** 2 * -np.log(p_t), 0], rel=1e-5)


def test_exclude_leaves_bad_rows_out_and_lists_them(client: httpx.Client) -> None:
    logits = np.array([[1, 2], [np.nan, 1], [0, 1], [3, 1]], np.float32)
    request = {"on_invalid": "exclude", "ids": ["a", "b", "c", "d"], "top_k": 9}
    body = save_numpy({"logits": logits, "targets": np.array([0, 0, 7, 1])}, {"request": json.dumps(request)})
    reply = client.post("/loss", content=body, headers=SAFETENSORS | {"Accept": "application/json"}).json()
    assert (reply["num_examples"], reply["num_excluded"], reply["num_ignored"]) == (4, 2, 0)
    assert [(row["batch"], row["index"], row["id"], row["code"]) for row in reply["excluded"]] == [
        (0, 1, "b", "invalid_logit"),
        (0, 2, "c", "invalid_target"),
    ]
    assert "NaN" in reply["excluded"][0]["msg"]
    good = post(client, logits=[[1, 2], [3, 1]], targets=[0, 1])
    assert reply["loss"] == pytest.approx(good["loss"])
    assert [hard["id"] for hard in reply["hardest"]] == ["d", "a"]
    tensors, metadata = post_safetensors(client, body)
    assert tensors["batch_num_excluded"].tolist() == [2]
    assert len(json.loads(metadata["excluded"])) == 2


def test_exclude_takes_a_null_of_json_for_a_logit_that_is_none(client: httpx.Client) -> None:
    reply = post(client, on_invalid="exclude", logits=[[1, None], [0, 1]], targets=[0, 1])
    assert reply["num_excluded"] == 1
    assert reply["excluded"][0]["msg"].endswith("column 1: logit NaN")
    assert reply["batches"][0]["per_example"]["loss"][0] is None
    assert reply["loss"] == pytest.approx(post(client, logits=[[0, 1]], targets=[1])["loss"])
    for bad in ("1", True, [1]):
        body = {"on_invalid": "exclude", "logits": [[1, bad], [0, None]], "targets": [0, 1]}
        assert client.post("/loss", json=body).json()["code"] == "invalid_logit"


def test_hardest_orders_underflowing_losses_then_position(client: httpx.Client) -> None:
    # The losses of all but the last underflow to 0 in float64; their logarithms do not.
    logits = [[900.0, 0], [800.0, 0], [1000.0, 0], [800.0, 0], [0, 1.0]]
    reply = post(client, logits=logits, targets=[0, 0, 0, 0, 0], top_k=5)
    assert reply["batches"][0]["per_example"]["loss"][:4] == [0.0] * 4
    assert [hard["index"] for hard in reply["hardest"]] == [4, 1, 3, 0, 2]
    assert "id" not in reply["hardest"][0]


def test_an_empty_batch_is_valid(client: httpx.Client) -> None:
    for logits, dtype in ((np.empty((0, 3)), np.float32), (np.empty((0,)), np.float32)):
        body = save_numpy({"logits": logits.astype(dtype), "targets": np.empty((0,), np.int64)})
        tensors, _ = post_safetensors(client, body)
        assert np.isnan(tensors["loss"])
        assert tensors["per_example.loss"].shape == (0,)
    assert post(client, config={"reduction": "sum"}, logits=[], targets=[])["loss"] == 0
    mean = post(client, logits=[], targets=[], ids=[], outputs=["loss", "prediction"])
    assert mean["loss"] is None
    assert mean["batches"][0]["per_example"] == {"loss": [], "prediction": []}
    mixed = post(client, batches=[{"logits": [], "targets": []}, {"logits": [[1, 2]], "targets": [0]}])
    assert mixed["batches"][0]["loss"] is None
    assert mixed["loss"] == mixed["batches"][1]["loss"]
    assert post(client, batches=[])["batches"] == []


def test_the_same_input_gives_the_same_bytes(client: httpx.Client) -> None:
    logits, targets = random_batch(5000, 100)
    body = save_numpy(
        {"logits": logits, "targets": targets}, {"request": json.dumps({"outputs": list(OUTPUTS), "top_k": 10})}
    )
    replies = {client.post("/loss", content=body, headers=SAFETENSORS).content for _ in range(5)}
    assert len(replies) == 1


def test_splitting_into_batches_changes_no_example(client: httpx.Client) -> None:
    logits, targets = random_batch(40)
    whole = post(client, logits=logits.tolist(), targets=targets.tolist(), top_k=5)
    parts = [
        {"logits": logits[rows].tolist(), "targets": targets[rows].tolist()} for rows in (slice(0, 13), slice(13, 40))
    ]
    split = post(client, batches=parts, top_k=5)
    assert split["loss"] == pytest.approx(whole["loss"])
    flat = [loss for batch in split["batches"] for loss in batch["per_example"]["loss"]]
    assert flat == pytest.approx(whole["batches"][0]["per_example"]["loss"])
    positions = [hard["index"] + 13 * hard["batch"] for hard in split["hardest"]]
    assert positions == [hard["index"] for hard in whole["hardest"]]


def test_the_reply_says_how_long_each_phase_took(client: httpx.Client) -> None:
    header = client.post("/loss", json=EXAMPLE).headers["server-timing"]
    assert [part.split(";")[0].strip() for part in header.split(",")] == [
        "receive",
        "queue",
        "decode",
        "compute",
        "encode",
    ]
