"""Diagnostics of structured runs over HTTP, against cleanlab 2.9.0 and sums in numpy."""

from __future__ import annotations

import warnings
from typing import Any

import cleanlab.count
import cleanlab.filter
import cleanlab.multilabel_classification.dataset as of_labels
import cleanlab.segmentation.summary
import cleanlab.token_classification.filter
import cleanlab.token_classification.summary
import httpx
import numpy as np
import pytest
from cleanlab.internal.token_classification_utils import merge_probs
from cleanlab.multilabel_classification.filter import find_label_issues, find_multilabel_issues_per_class

from service.schema.replies.diagnostics import Diagnostics
from tests.diagnostics.elements.stable import stable_sorts
from tests.diagnostics.structured_runs import create, diagnostics, noisy_elements, noisy_labels, put
from tests.replies import assert_is

MEMBERS = {"num_duplicates", "loss", "elements", "histogram", "concentration", "concentration_at_gamma_0", "warnings"}
ONE_CLASS = {"classes", "confusion", "class_pairs", "calibration", "label_errors", "suggested_alpha"}


def sigmoid(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    p = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def codes(reply: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in reply["warnings"]]


def put_labels(client: httpx.Client) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
    """Logits and targets of several labels, and their diagnostics."""
    logits, targets = noisy_labels(400, 5)
    create(client, "labels", "multi_label", {"mode": "sigmoid", "gamma": 2}, class_names=["a", "b", "c", "d", "e"])
    put(client, "labels", list(logits), list(targets))
    return logits, targets, diagnostics(client, "labels")


def test_counts_of_labels(client: httpx.Client) -> None:
    logits, targets, reply = put_labels(client)
    assert_is(Diagnostics, reply)
    assert set(reply) >= MEMBERS
    assert not set(reply) & ONE_CLASS
    elements = reply["elements"]
    p, wrong = sigmoid(logits), (logits > 0) != (targets == 1)
    assert (elements["num_elements"], elements["num_valid"], elements["num_ignored"]) == (2000, 2000, 0)
    assert (elements["num_wrong"], elements["num_units"]) == (wrong.sum(), wrong.sum())
    assert elements["num_examples_wrong"] == wrong.any(axis=1).sum()
    table = elements["classes"]
    assert [row["name"] for row in table] == ["a", "b", "c", "d", "e"]
    assert [row["num_wrong"] for row in table] == wrong.sum(axis=0).tolist()
    assert [row["num_positive"] for row in table] == targets.sum(axis=0).tolist()
    p_t = np.where(targets == 1, p, 1 - p)
    loss = (1 - p_t) ** 2 * -np.log(p_t)
    np.testing.assert_allclose([row["mean_loss"] for row in table], loss.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(reply["loss"]["value"], loss.mean(), rtol=1e-5)
    assert sum(row["loss_share"] for row in table) == pytest.approx(1)
    assert sum(row["count"] for row in elements["confusions"]) == wrong.sum()
    largest = elements["confusions"][0]
    missed = wrong[:, largest["label"]] & (targets[:, largest["label"]] == largest["target"])
    assert largest["count"] == missed.sum()
    client.delete("/runs/labels")


def test_issues_of_labels(client: httpx.Client) -> None:
    logits, targets, reply = put_labels(client)
    p, elements = sigmoid(logits), reply["elements"]
    table = elements["classes"]
    labels = [np.flatnonzero(row).tolist() for row in targets]
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        joints = cleanlab.count.compute_confident_joint(labels, p, multi_label=True)
        thresholds = cleanlab.count.get_confident_thresholds(labels, p, multi_label=True)
        marks = find_multilabel_issues_per_class(labels, p, n_jobs=1)
        quality = of_labels.rank_classes_by_multilabel_quality(labels, p).set_index("Class Index").sort_index()
        common = of_labels.common_multilabel_issues(labels, p)
        health = of_labels.overall_multilabel_health_score(labels, p)
        num_issues = find_label_issues(labels, p, n_jobs=1).sum()
    issues = elements["label_issues"]
    np.testing.assert_array_equal([row["joint"] for row in table], joints)
    np.testing.assert_allclose([row["thresholds"] for row in table], thresholds, rtol=1e-6)
    np.testing.assert_allclose([row["label_noise"] for row in table], quality["Label Noise"])
    np.testing.assert_allclose([row["inverse_label_noise"] for row in table], quality["Inverse Label Noise"])
    np.testing.assert_allclose([row["label_quality"] for row in table], quality["Label Quality Score"])
    assert issues["num_issues"] == marks.sum()
    assert issues["num_examples"] == num_issues
    assert issues["health"] == pytest.approx(health)
    assert issues["estimated"] == joints.sum() - np.trace(joints, axis1=1, axis2=2).sum()
    theirs = {row[:3]: row[3:] for row in common.itertuples(index=False, name=None) if row[3]}
    ours = {(row["label"], row["target"], row["suggested"]): (row["count"], row["share"]) for row in issues["common"]}
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose([ours[key] for key in theirs], list(theirs.values()))


def assert_equals_confident_learning(issues: dict[str, Any], targets: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Compare the estimates with those of the flat elements, and return cleanlab's marks."""
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        joint = cleanlab.count.compute_confident_joint(targets, p)
        marks = cleanlab.filter.find_label_issues(targets, p, n_jobs=1)
        # The elements as the pixels of an image.
        planes = p.T.reshape(1, -1, len(p), 1)
        common = cleanlab.segmentation.summary.common_label_issues(
            marks.reshape(1, -1, 1), targets.reshape(1, -1, 1), planes, verbose=False, top=100
        )
    np.testing.assert_array_equal(issues["joint"], joint)
    assert issues["estimated"] == joint.sum() - np.trace(joint)
    assert issues["num_issues"] == marks.sum()
    ours = [(row["target"], row["suggested"], row["count"]) for row in issues["common"]]
    assert ours == [(int(a), int(b), n) for a, b, n in common.itertuples(index=False, name=None)]
    return marks


def test_tokens(client: httpx.Client) -> None:
    lengths = np.random.default_rng(1).integers(1, 9, 120)
    logits, targets = noisy_elements([(int(length),) for length in lengths], 4, ignored=-100)
    targets[3][:] = -100
    # Examples without an element that counts are not stored.
    stored = [bool((part >= 0).any()) for part in targets]
    words = [[f"w{place % 3}" for place in range(length)] for length in lengths]
    create(client, "tokens", "tokens", {"gamma": 2})
    put(client, "tokens", logits, targets, attributes={"tokens": words})
    reply = diagnostics(client, "tokens")
    assert_is(Diagnostics, reply)
    elements = reply["elements"]
    assert (reply["num_examples"], reply["num_ignored"]) == (sum(stored), 120 - sum(stored))
    flat, x = np.concatenate(targets), np.concatenate(logits)
    counted = flat >= 0
    p, y = softmax(x)[counted], flat[counted]
    p_t, prediction = p[np.arange(len(y)), y], p.argmax(axis=1)
    loss = (1 - p_t) ** 2 * -np.log(p_t)
    assert elements["num_ignored"] == lengths[stored].sum() - len(y)
    assert (elements["num_valid"], elements["num_wrong"]) == (len(y), (prediction != y).sum())
    table = elements["classes"]
    assert [row["count"] for row in table] == np.bincount(y).tolist()
    np.testing.assert_allclose([row["loss_sum"] for row in table], np.bincount(y, loss), rtol=1e-5)
    np.testing.assert_allclose(reply["loss"]["value"], loss.mean(), rtol=1e-5)
    cells = {(row["target"], row["prediction"]): row for row in elements["confusions"]}
    for (target, predicted), row in cells.items():
        chosen = (y == target) & (prediction == predicted) & (target != predicted)
        assert row["count"] == chosen.sum()
        assert row["loss_sum"] == pytest.approx(loss[chosen].sum(), rel=1e-5)
    assert sum(row["num_units"] for row in cells.values()) == elements["num_units"] <= elements["num_wrong"]

    issues = elements["label_issues"]
    marks = assert_equals_confident_learning(issues, y, p)
    thresholds = cleanlab.count.get_confident_thresholds(y, p)
    np.testing.assert_allclose([row["threshold"] for row in table], thresholds, rtol=1e-5)
    joint = np.array(issues["joint"])
    assert [row["label_issues"] for row in table] == (joint.sum(axis=1) - np.diag(joint)).tolist()
    owners = np.repeat(np.arange(120), lengths)[counted]
    assert issues["num_examples"] == len(np.unique(owners[marks]))
    nested = [part[part >= 0].tolist() for part in targets]
    kept = [number for number, part in enumerate(nested) if part]
    arguments = (
        [nested[number] for number in kept],
        [softmax(logits[number])[targets[number] >= 0] for number in kept],
    )
    texts = [[word for word, target in zip(words[n], targets[n], strict=True) if target >= 0] for n in kept]
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        places = cleanlab.token_classification.filter.find_label_issues(*arguments, n_jobs=1)
        common = cleanlab.token_classification.summary.common_label_issues(
            places, texts, labels=arguments[0], pred_probs=arguments[1], class_names=None, verbose=False
        )
    ours = [(row["word"], row["target"], row["suggested"], row["count"]) for row in issues["words"]]
    assert sorted(ours) == sorted(common.itertuples(index=False, name=None))
    # The words may have come with an earlier epoch.
    put(client, "tokens", logits, targets, epoch=1)
    assert diagnostics(client, "tokens", fields="elements")["elements"] == elements


def test_entities_of_tokens(client: httpx.Client) -> None:
    names, maps = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], [0, 1, 1, 2, 2]
    logits, targets = noisy_elements([(5,)] * 80, 5, ignored=-100)
    create(client, "entities", "tokens", {}, class_names=names)
    put(client, "entities", logits, targets)
    elements = diagnostics(client, "entities", fields="elements")["elements"]
    flat, x = np.concatenate(targets), np.concatenate(logits)
    p, y = merge_probs(softmax(x)[flat >= 0], maps), np.array(maps)[flat[flat >= 0]]
    issues = elements["entities"]
    assert issues["names"] == ["O", "PER", "LOC"]
    assert_equals_confident_learning(issues, y, p)
    assert_equals_confident_learning(elements["label_issues"], flat[flat >= 0], softmax(x)[flat >= 0])


def test_masks(client: httpx.Client) -> None:
    shapes = [(4, 6)] * 5 + [(3, 5), (4, 6), (6, 4)]
    images, targets = noisy_elements(shapes, 3, ignored=255)
    create(client, "masks", "masks", {"gamma": 2, "ignore_index": 255})
    put(client, "masks", [image.transpose(2, 0, 1) for image in images], targets)
    reply = diagnostics(client, "masks")
    assert_is(Diagnostics, reply)
    elements = reply["elements"]
    flat, x = (np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts]) for parts in (targets, images))
    p, y = softmax(x)[flat < 255], flat[flat < 255]
    assert (elements["num_valid"], elements["num_ignored"]) == (len(y), (flat == 255).sum())
    assert_equals_confident_learning(elements["label_issues"], y, p)
    marks = [row["count"] for row in elements["label_issues"]["common"]]
    assert marks == sorted(marks, reverse=True)


@pytest.mark.parametrize("task", ["tokens", "masks"])
def test_two_classes_without_logits(client: httpx.Client, task: Any) -> None:
    generator = np.random.default_rng(4)
    true = generator.random((60, 8)) < 0.4
    logits = (np.where(true, 1, -1) + generator.normal(size=true.shape)).astype(np.float32)
    targets = (true ^ (generator.random(true.shape) < 0.1)).astype(np.int64)
    create(client, f"two-{task}", task, {"mode": "sigmoid"}, store_logits=False)
    put(client, f"two-{task}", list(logits), list(targets))
    reply = diagnostics(client, f"two-{task}")
    p = sigmoid(logits).reshape(-1)
    assert_equals_confident_learning(
        reply["elements"]["label_issues"], targets.reshape(-1), np.stack([1 - p, p], axis=1)
    )
    assert "no_logits" not in codes(reply)


def test_without_probabilities(client: httpx.Client) -> None:
    logits, targets = noisy_elements([(5,)] * 20, 3)
    create(client, "thin", "tokens", {}, store_logits=False)
    put(client, "thin", logits, targets)
    reply = diagnostics(client, "thin")
    assert reply["elements"]["label_issues"] is None
    assert "label_noise" not in reply["elements"]["classes"][0]
    assert "no_logits" in codes(reply)


@pytest.mark.parametrize("task", ["multi_label", "tokens", "masks"])
def test_a_run_without_examples(client: httpx.Client, task: Any) -> None:
    create(client, f"empty-{task}", task, {"mode": "sigmoid"})
    reply = diagnostics(client, f"empty-{task}")
    assert_is(Diagnostics, reply)
    assert codes(reply) == ["no_examples"]
    assert reply["elements"]["label_issues"] is None


def test_fields(client: httpx.Client) -> None:
    logits, targets = noisy_labels(20, 2)
    create(client, "fields", "multi_label", {"mode": "sigmoid"})
    put(client, "fields", list(logits), list(targets))
    reply = diagnostics(client, "fields", fields="elements,classes")
    assert "elements" in reply
    assert not {*reply} & {"classes", "loss", "warnings"}


def test_the_last_row_of_an_id_counts(client: httpx.Client) -> None:
    create(client, "twice", "multi_label", {"mode": "sigmoid"})
    for batch, logits in ("a", [[2, -2], [1, 1]]), ("b", [[-3, -3]]):
        body = {"logits": logits, "targets": [[1, 0]] * len(logits), "ids": ["x", "y"][: len(logits)]}
        assert client.put(f"/runs/twice/epochs/0/batches/{batch}", json=body).status_code == 201
    reply = diagnostics(client, "twice")
    assert (reply["num_examples"], reply["num_duplicates"]) == (2, 1)
    elements = reply["elements"]
    # Of x the logits (-3, -3), of y (1, 1): each has a wrong label.
    assert (elements["num_valid"], elements["num_wrong"]) == (4, 2)
    assert [row["num_wrong"] for row in elements["classes"]] == [1, 1]
    joints = np.array([row["joint"] for row in elements["classes"]])
    assert joints.sum(axis=(1, 2)).tolist() == [2, 2]


def test_a_model_that_agrees_with_all_labels(client: httpx.Client) -> None:
    logits, _ = noisy_labels(120, 2)
    create(client, "learned", "multi_label", {"mode": "sigmoid"})
    put(client, "learned", list(logits), list((logits > 0).astype(np.int64)))
    messages = {row["code"]: row["message"] for row in diagnostics(client, "learned")["warnings"]}
    assert messages["in_sample"].startswith("The model agrees with 100.00% of the examples, in all of their elements. ")


@pytest.mark.parametrize("within", ["mean", "max"])
def test_concentration_at_gamma_0(client: httpx.Client, within: str) -> None:
    logits, targets = noisy_labels(50, 3)
    run = f"concentration-{within}"
    create(client, run, "multi_label", {"mode": "sigmoid", "gamma": 2}, within=within)
    put(client, run, list(logits), list(targets))
    plain = diagnostics(client, run, fields="concentration", gamma=0)["concentration"]
    also = diagnostics(client, run, fields="concentration_at_gamma_0")["concentration_at_gamma_0"]
    assert also["gini"] == pytest.approx(plain["gini"], rel=1e-12)
    np.testing.assert_allclose(also["lorenz"], plain["lorenz"])
