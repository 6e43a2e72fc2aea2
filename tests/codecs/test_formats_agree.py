"""The same data in every format has the same answer, or the same error: status, code, batch, part and row."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.errors import LossServiceError
from service.formats.labels import ClassNames
from service.loss.focal import FocalLoss
from service.runs.ingest import check_batches
from service.runs.rows import content_digest
from service.schema.config import LossConfig
from service.schema.request import LossRequest
from tests.codecs.wire_forms import FLOATS, INTEGERS, PlainRows, Sent, forms
from tests.lanes import mostly_slow
from tests.strategies import at_most

LIMITS = Limits(1000, 1000)
NAMES = ("cat", "dog", "2")
OUTPUTS = ("loss", "prediction", "p_t")


@pytest.fixture(scope="module")
def device() -> Device:
    return Device("cpu")


# Labels by the type of their column: such that are classes, and such that are none.
LABELS: dict[str, tuple[list[Any], list[Any]]] = {
    "int64": ([0, 1, 2, -100], [3, -1, 2**63 - 1, None]),
    "int8": ([0, 1, 2, -100], [-1, None]),
    "uint8": ([0, 1, 2], [200]),
    "uint16": ([0, 1, 2], [65_000]),
    "uint32": ([0, 1, 2], [2**32 - 1]),
    "uint64": ([0, 1, 2], [2**63, 2**64 - 1, None]),
    "bool": ([False, True], [None]),
    "float64": ([0.0, 1.0, 2.0, -100.0], [1.5, 3.0, float("nan"), 1e300]),
    "float32": ([0.0, 1.0, 2.0], [0.25]),
    "float16": ([0.0, 1.0, 2.0], [-0.5]),
    "decimal": ([Decimal("0.00"), Decimal("2.00")], [Decimal("1.50"), None]),
    "text": (["0", "1", "2", "1.0", "True", "-100", " 1 "], ["bird", "1.5", "zwölf", "3", None]),
    "names": (["cat", "dog", "2", "0", " cat "], ["Cat", "1.5", None]),
}
TEXTS = ["a", "b", "c", "007", "=1+1", "new\nline", "ü", '"', "a,b;c|d", "1.0"]
IDS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(TEXTS),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint8": st.integers(0, 255),
    "bytes": st.sampled_from([text.encode() for text in TEXTS]),
    "decimal": st.sampled_from([Decimal(f"{number}.00") for number in (*range(8), 2**64 - 1)]),
}


@st.composite
def requests(
    draw: st.DrawFn, *, fault: str, for_run: bool = False, named_classes: bool = False, binary: bool = False
) -> Sent:
    """Requests with at most one kind of fault: which of two is reported is not one rule."""
    logits_type = draw(st.sampled_from([*FLOATS, "int8", "int64", "uint16"] if fault != "logits" else FLOATS))
    label_type = "names" if named_classes else draw(st.sampled_from([name for name in LABELS if name != "names"]))
    id_type = draw(st.sampled_from(list(IDS)))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    logit = st.integers(0, 8) if logits_type in INTEGERS else st.integers(-64, 64).map(lambda value: value / 8)
    if fault == "logits":
        logit = logit | st.just(draw(st.sampled_from([None, float("nan"), float("inf")])))
    labels, no_labels = LABELS[label_type]
    labels = [label for label in labels if not binary or label not in (2, "2")]
    label = st.sampled_from(labels + (no_labels if fault == "labels" else []))
    total = sum(sizes)
    named = for_run or fault == "ids" or draw(st.booleans())
    ids = draw(st.lists(IDS[id_type], min_size=total, max_size=total, unique=fault != "ids")) if named else None
    if fault == "ids" and id_type in ("text", "int64") and draw(st.booleans()):
        ids[draw(st.integers(0, total - 1))] = None
    batches = []
    for size in sizes:
        rows = st.lists(st.lists(logit, min_size=3, max_size=3), min_size=size, max_size=size)
        of_rows = [ids.pop() for _ in range(size)] if ids is not None else None
        batches.append(PlainRows(draw(rows), draw(st.lists(label, min_size=size, max_size=size)), of_rows))
    return Sent(
        batches,
        logits_type,
        "text" if label_type == "names" else label_type,
        id_type,
        draw(st.sampled_from(["fixed", "list", "large", "list_view", "tensor", "columns"])),
        draw(st.sampled_from(["plain", "dictionary", "view", "run_ends"])),
        (draw(st.sampled_from(["targets", "target", "labels", "label", "y"])), draw(st.sampled_from(["id", "ids"]))),
        draw(st.sampled_from([{}, {}, {"on_invalid": "exclude"}])),
    )


def answer(device: Device, request: LossRequest, config: LossConfig, names: tuple[str, ...] | None) -> Any:
    """The numbers of the answer; of a batch for a run also the digest of its rows, which decides about a conflict."""
    options, batches, digest = request.options, request.batches, None
    if names is not None:
        exclude = options.on_invalid == "exclude"
        checked = check_batches(config, batches, ClassNames(names) if names else None, exclude=exclude)
        batches = tuple(batch.source for batch in checked)
        digest = content_digest(checked) if not exclude else None
    options = options.model_copy(update={"outputs": OUTPUTS, "top_k": 3})
    result = evaluate(device, FocalLoss.from_config(config, "cpu"), LossRequest(options, batches), LIMITS)
    return {
        "counts": (result.num_examples, result.num_ignored, result.num_excluded),
        "digest": digest,
        "loss": result.loss,
        "columns": {name: result.per_example[name].tolist() for name in OUTPUTS},
        "hardest": [(hard.batch, hard.index, str(hard.id)) for hard in result.hardest],
        "excluded": [(row.batch, row.index, row.code) for row in result.excluded],
    }


def answer_or_error(decode: Any, device: Device, config: LossConfig, names: tuple[str, ...] | None) -> Any:
    try:
        return answer(device, decode(), config, names)
    except LossServiceError as error:
        # Batch, part and row of the first fault; not all formats go on to further rows.
        return error.status, error.code, error.errors[0]["loc"][:4] if error.errors else error.detail


def check(device: Device, sent: Sent, config: LossConfig, names: tuple[str, ...] | None) -> None:
    answers = {name: answer_or_error(decode, device, config, names) for name, decode in forms(sent)}
    first, *others = answers
    for name in others:
        got, expected = answers[name], answers[first]
        if isinstance(expected, tuple) or isinstance(got, tuple):
            assert got == expected, (first, name, answers)
            continue
        for member in ("counts", "digest", "hardest", "excluded"):
            assert got[member] == expected[member], (first, name, member)
        for column in OUTPUTS:
            numbers = [np.float64(value["columns"][column]) for value in (got, expected)]
            assert np.allclose(*numbers, rtol=2e-5, atol=1e-6, equal_nan=True), (first, name, column)


FAULTS = st.sampled_from(["none", "none", "logits", "labels", "ids"])


@at_most(300, deadline=None)
@given(data=st.data(), fault=FAULTS, names=st.sampled_from([None, (), NAMES]))
def test_same_data_in_every_format(
    device: Device, data: st.DataObject, fault: str, names: tuple[str, ...] | None
) -> None:
    sent = data.draw(requests(fault=fault, for_run=names is not None, named_classes=bool(names)))
    check(device, sent, LossConfig(), names)


@at_most(300, deadline=None)
# Without labels such as 1.5: `1,5` of a CSV is no number, and is named before an earlier label that is out of range.
@given(data=st.data(), fault=FAULTS.filter(lambda fault: fault != "labels"))
def test_same_labels_of_sigmoid_mode(device: Device, data: st.DataObject, fault: str) -> None:
    sent = data.draw(requests(fault=fault, binary=True))
    batches = [replace(rows, logits=[row[:1] for row in rows.logits]) for rows in sent.batches]
    lists = "list" if sent.lists == "columns" else sent.lists
    check(device, replace(sent, batches=batches, lists=lists), LossConfig(mode="sigmoid"), None)


@pytest.mark.parametrize("options", [{}, {"on_invalid": "exclude"}])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_missing_row_of_logits(device: Device, row: int, options: dict[str, Any]) -> None:
    logits: list[Any] = [[0.5, 1.0, 2.0] for _ in range(3)]
    logits[row] = None
    rows = PlainRows(logits, [0, 1, 2], ["a", "b", "c"])
    for lists in ("list", "large", "list_view", "fixed"):
        sent = Sent([rows], lists=lists, options=options)
        answers = {name: answer_or_error(decode, device, LossConfig(), None) for name, decode in forms(sent)}
        assert {"json", "arrow stream", "arrow file"} <= answers.keys()
        if options:
            assert {(got["counts"], *got["excluded"]) for got in answers.values()} == {
                ((3, 0, 1), (0, row, "invalid_logit"))
            }
        else:
            assert set(map(str, answers.values())) == {str((422, "invalid_logit", ["batches", 0, "logits", row]))}


LISTS: list[tuple[str, list[list[Any]]]] = [
    ("int64", [[0, 1], [1, 1]]),
    ("uint8", [[0, 1], [1, 0]]),
    ("uint64", [[0, 1], [1, 2**63]]),
    ("float64", [[0.0, 0.5], [0.25, 1.0]]),
    ("float32", [[0.0, 1.0], [1.0, -100.0]]),
    ("float64", [[0.0, 1.0], [1.0, 1.5]]),
    ("bool", [[False, True], [True, True]]),
    ("text", [["0", "1"], ["0.5", "true"]]),
    ("text", [["0", "1"], ["0.5", "x"]]),
    ("int64", [[0, 1], [1, None]]),
]


@pytest.mark.parametrize(
    ("label_type", "labels"), mostly_slow(LISTS, quick=5), ids=[str(labels) for _, labels in LISTS]
)
@pytest.mark.parametrize("options", mostly_slow([{}, {"on_invalid": "exclude"}], quick=1))
def test_lists_of_labels(device: Device, label_type: str, labels: list[list[Any]], options: dict[str, Any]) -> None:
    rows = PlainRows([[0.5, 1.0], [2.0, -1.0]], labels, ["a", "b"])
    for lists in ("list", "fixed", "columns"):
        sent = Sent([rows], label_type=label_type, lists=lists, options=options)
        check(device, sent, LossConfig(mode="sigmoid"), None)
