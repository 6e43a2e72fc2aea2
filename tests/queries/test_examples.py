"""Pages of examples, compared with sorting in Python: order, cursors, filters, attributes, percentiles, names."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from functools import cmp_to_key
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example as example_of
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.examples import SHOWN, example, examples_page
from service.queries.filters import Filter
from service.queries.order import OF_ELEMENTS, SORTABLE, Order
from service.queries.view import SCORE_NAMES, View
from service.queries.weighting import Weighting
from service.runs.review_history import ReviewHistory
from service.schema.replies.examples import ExamplesPage
from tests.lanes import mostly_slow
from tests.runs.temp_runs import Rows, TempRuns, noisy, scored, temp_runs
from tests.strategies import at_most

NO_REVIEWS = ReviewHistory([])
NO_FILTER = Filter()
# The examples of these runs have one class.
SORT_KEYS = [name for name in SORTABLE if name not in OF_ELEMENTS]
OWN = Weighting((1.0, 0.0, 2.0), 2.0)
ODD_IDS = ["it's", 'a"b', "a/b/../c", "ü中\U0001f408", "'; DROP TABLE x; --", "%_", "\\", " ", "-1", "null", "a\nb"]
ODD_NAMES = ['a"b', "a.b", "$x", "a\\b", "*", "", "a/b", "a~b", "~1", "[0]", "0", "ü中", "a\nb", "#", "it's"]


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """Two epochs of 120 rows with many ties, a mask and zeros; twenty rows of the last one do not count."""
    with temp_runs() as temp:
        temp.create({"alpha": [1, 0, 2]})
        for epoch in (0, 3):
            for batch in range(3):
                logits, targets = noisy(40, 3, seed=10 * epoch + batch)
                logits[:3], targets[:3] = [[0, -math.inf, -math.inf], [0, 0, 0], [-0.0, 0, 60]], [0, 2, 2]
                ids = [f"e{batch * 40 + row - (20 if epoch and batch == 1 else 0)}" for row in range(40)]
                temp.put(logits, targets, ids, epoch=epoch, batch=f"b{batch}")
        yield temp


@pytest.fixture
def empty_run() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        temp.create()
        yield temp


def pages(runs: TempRuns, text: str, limit: int, epoch: int = 3, where: Filter = NO_FILTER) -> list[ExamplesPage]:
    """All pages, each requested by the cursor of the previous page."""

    def ask(view: View) -> list[ExamplesPage]:
        order, result, cursor = Order.parse(text), [], None
        while not result or cursor is not None:
            result.append(examples_page(view, OWN, epoch, where=where, order=order, limit=limit, cursor=cursor))
            cursor = result[-1]["next_cursor"]
            assert len(result) < 200, "the pages have no end"
        return result

    return runs.ask(ask)


def place(row: dict[str, Any]) -> tuple[str, int]:
    return row["batch"], row["row"]


def by(text: str, rows: Rows) -> list[tuple[str, int]]:
    """Batch and row of each row, sorted by comparing pairs."""

    def compare(first: dict[str, Any], second: dict[str, Any]) -> int:
        for part in [*text.split(","), "id", "batch", "row"]:
            name = part.strip().removeprefix("-")
            name = "log_loss" if name == "loss" else name
            if first[name] != second[name]:
                return (1 if first[name] > second[name] else -1) * (-1 if part.strip().startswith("-") else 1)
        return 0

    return [place(row) for row in sorted(rows, key=cmp_to_key(compare))]


@pytest.mark.parametrize("name", mostly_slow(SORT_KEYS, quick=4))
@pytest.mark.parametrize("sign", ["", "-"])
def test_rows_are_sorted_by_each_key_then_by_id(runs: TempRuns, name: str, sign: str) -> None:
    rows = scored(runs.counted(epoch=3), OWN.alpha, OWN.gamma)
    (result,) = pages(runs, sign + name, 1000)
    assert [place(row) for row in result["rows"]] == by(sign + name, rows)
    assert len({place(row) for row in result["rows"]}) == 100
    assert [list(row) for row in result["rows"]] == [[*SHOWN, "attributes", "verdict"]] * 100


@pytest.mark.slow
@at_most(20, deadline=None)
@example_of([("-", "loss")], 1, 3)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "-"]), st.sampled_from(sorted(SORT_KEYS))),
        min_size=1,
        max_size=4,
        unique_by=itemgetter(1),
    ),
    st.integers(9, 130),
    st.sampled_from([0, 3]),
)
def test_pages_cover_every_row_once_in_order(
    runs: TempRuns, keys: list[tuple[str, str]], limit: int, epoch: int
) -> None:
    text = ",".join(sign + name for sign, name in keys)
    result = pages(runs, text, limit, epoch)
    assert [len(shown_page["rows"]) for shown_page in result[:-1]] == [limit] * (len(result) - 1)
    assert 1 <= len(result[-1]["rows"]) <= limit
    rows = scored(runs.counted(epoch=epoch), OWN.alpha, OWN.gamma)
    assert [place(row) for shown_page in result for row in shown_page["rows"]] == by(text, rows)


def test_a_page_has_the_scores_of_the_stored_rows(runs: TempRuns) -> None:
    (result,) = pages(runs, "batch,row", 1000)
    for row, expected_row in zip(result["rows"], scored(runs.counted(epoch=3), OWN.alpha, OWN.gamma), strict=True):
        for name in SHOWN:
            value = expected_row[name]
            assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12, abs=1e-300)), name
        assert row["attributes"] == {}


Forgery = Callable[[dict[str, Any]], Any]
FORGERIES: list[Forgery] = [
    lambda fields: fields | {"last": []},
    lambda fields: fields | {"last": [*fields["last"], 1]},
    lambda fields: fields | {"last": [None, *fields["last"][1:]]},
    lambda fields: fields | {"last": ["no number", *fields["last"][1:]]},
    lambda fields: fields | {"last": [1, *fields["last"][1:]]},
    lambda fields: fields | {"last": [fields["last"][0], 5, *fields["last"][2:]]},
    lambda fields: fields | {"last": [*fields["last"][:-1], "7"]},
    lambda fields: fields | {"last": [*fields["last"][:-1], 2**63]},
    lambda fields: fields | {"last": [*fields["last"][:-1], [1]]},
    lambda fields: {"last": fields["last"]},
    lambda fields: [1],
    lambda fields: "text",
    lambda fields: None,
]


def check_cursor_is_rejected(
    runs: TempRuns, cursor: str, text: str = "-loss", weighting: Weighting = OWN, epoch: int = 3
) -> None:
    with pytest.raises(InvalidRequestError, match="cursor") as caught:
        runs.ask(
            lambda view: examples_page(
                view, weighting, epoch, where=Filter(), order=Order.parse(text), limit=5, cursor=cursor
            )
        )
    assert caught.value.errors[0]["loc"] == ["query", "cursor"]


def test_a_cursor_of_another_list_and_a_forged_cursor_are_errors(runs: TempRuns) -> None:
    cursor = pages(runs, "-loss", 5)[0]["next_cursor"]
    assert cursor is not None
    for text in ("loss", "-loss,target", "-cross_entropy", "-loss,-id"):
        check_cursor_is_rejected(runs, cursor, text)
    check_cursor_is_rejected(runs, cursor, weighting=Weighting(None, 2.0))
    check_cursor_is_rejected(runs, cursor, weighting=Weighting(OWN.alpha, 0.0))
    check_cursor_is_rejected(runs, cursor, epoch=0)
    fields = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
    for forge in FORGERIES:
        check_cursor_is_rejected(runs, base64.urlsafe_b64encode(orjson.dumps(forge(fields))).decode().rstrip("="))
    for text in ("", "x", "....", "ü", "0" * 5000, cursor[:-3]):
        check_cursor_is_rejected(runs, text)


def test_an_unknown_sort_key_is_an_error_that_lists_the_known_ones() -> None:
    for text in ("", "lose", "loss,", "--loss", "loss;id", "log_loss", "+loss"):
        with pytest.raises(InvalidRequestError, match="p_t") as caught:
            Order.parse(text)
        assert caught.value.errors[0]["loc"] == ["query", "sort"]
    assert Order.parse(" -loss , id ").keys == (("loss", True), ("id", False))


def matching(runs: TempRuns, where: Filter, epoch: int = 3) -> list[tuple[str, int]]:
    result = [place(row) for shown_page in pages(runs, "batch,row", 41, epoch, where) for row in shown_page["rows"]]
    assert pages(runs, "id", 1000, epoch, where)[0]["num_matching"] == len(result)
    return result


def expected(runs: TempRuns, keep: Callable[[dict[str, Any]], bool]) -> list[tuple[str, int]]:
    return [place(row) for row in scored(runs.counted(epoch=3), OWN.alpha, OWN.gamma) if keep(row)]


def test_filters_by_class_and_correctness(runs: TempRuns) -> None:
    for label in (0, 1, 2, 3):
        assert matching(runs, Filter(classes={"target": [label]})) == expected(
            runs, lambda row, k=label: row["target"] == k
        )
        both = Filter(classes={"target": [label], "prediction": [1]})
        assert matching(runs, both) == expected(runs, lambda row, k=label: (row["target"], row["prediction"]) == (k, 1))
    for flag in (True, False):
        wanted = expected(runs, lambda row, f=flag: (row["target"] == row["prediction"]) is f)
        assert matching(runs, Filter(correct=flag)) == wanted != []


@pytest.mark.parametrize("name", mostly_slow(SCORE_NAMES, quick=2))
def test_filters_by_the_range_of_a_score(runs: TempRuns, name: str) -> None:
    values = sorted({row[name] for row in pages(runs, "id", 1000)[0]["rows"]})
    low, high = values[len(values) // 3], values[2 * len(values) // 3]
    rows = pages(runs, "batch,row", 1000)[0]["rows"]
    for where, wanted in [
        (Filter(at_least={name: low}), [row for row in rows if row[name] >= low]),
        (Filter(at_most={name: high}), [row for row in rows if row[name] <= high]),
        (Filter(at_least={name: low}, at_most={name: low}), [row for row in rows if row[name] == low]),
        (Filter(at_least={name: math.nextafter(low, math.inf)}), [row for row in rows if row[name] > low]),
    ]:
        assert matching(runs, where) == [place(row) for row in wanted]
    assert matching(runs, Filter(at_least={name: math.nan})) == []


def test_filters_by_ids(runs: TempRuns) -> None:
    ids = ["e7", "e25", "nobody", "e7"]
    assert matching(runs, Filter(ids=ids)) == expected(runs, lambda row: row["id"] in ids) != []
    assert matching(runs, Filter(ids=[])) == []


def test_rows_and_filters_use_the_attributes_that_were_sent_last(empty_run: TempRuns) -> None:
    logits = np.zeros((3, 2), dtype=np.float32)
    empty_run.put(
        logits, [0, 1, 1], ["a", "b", "c"], epoch=0, attributes={"group": ["x", "y", None], "n": [1, 2.5, True]}
    )
    empty_run.put(logits, [0, 1, 1], ["a", "b", "c"], epoch=2, batch="z", attributes={"n": [7, None, None]})
    empty_run.put(logits[:1], [0], ["b"], epoch=2, batch="a", attributes={"group": ["early"]})
    empty_run.put(logits, [0, 1, 1], ["a", "b", "c"], epoch=5)
    held = {"a": {"n": 7}, "b": {}, "c": {}}
    for epoch, among in ((0, "abc"), (5, "abc")):
        result = {row["id"]: row["attributes"] for row in pages(empty_run, "id", 1, epoch)[0]["rows"]}
        assert result == {"a": {"n": 7}}
        rows = [row for shown_page in pages(empty_run, "id", 2, epoch) for row in shown_page["rows"]]
        assert {row["id"]: row["attributes"] for row in rows} == {name: held[name] for name in among}
    own = {place(row): row["attributes"] for row in pages(empty_run, "id", 9, 2)[0]["rows"]}
    assert own == {("z", 0): {"n": 7}, ("z", 1): {}, ("z", 2): {}}
    for name, text, wanted in [("n", "7", ["a"]), ("group", "x", []), ("group", "y", []), ("group", "early", [])]:
        where = Filter(attributes={name: text})
        assert [row["id"] for row in pages(empty_run, "id", 9, 5, where)[0]["rows"]] == wanted, (name, text)
    assert empty_run.ask(lambda view: example(view, OWN, 0, "a", NO_REVIEWS))["attributes"] == {"n": 7}


def test_attributes_are_compared_as_texts_and_all_must_match(empty_run: TempRuns) -> None:
    values = ["x", 1, 1.0, True, [1, "a"], {"k": None}, "", None]
    names = [f"e{place}" for place in range(len(values))]
    empty_run.put(np.zeros((8, 2)), [0] * 8, names, attributes={"v": values, "w": ["1"] * 8})

    def matching_ids(**attributes: str) -> list[str]:
        return [row["id"] for row in pages(empty_run, "id", 9, 0, Filter(attributes=attributes))[0]["rows"]]

    wanted = {"x": ["e0"], "1": ["e1"], "1.0": ["e2"], "true": ["e3"], '[1,"a"]': ["e4"], '{"k":null}': ["e5"]}
    assert {text: matching_ids(v=text) for text in wanted} == wanted
    assert (matching_ids(v=""), matching_ids(v="null"), matching_ids(v="-"), matching_ids(u="x")) == (
        ["e6"],
        [],
        [],
        [],
    )
    assert (matching_ids(v="1", w="1"), matching_ids(v="1", w="2")) == (["e1"], [])


@pytest.mark.slow
def test_special_characters_in_ids_and_names_of_attributes(empty_run: TempRuns) -> None:
    logits = np.zeros((len(ODD_IDS), 2), dtype=np.float32)
    attributes = {name: [f"{name}={identity}" for identity in ODD_IDS] for name in ODD_NAMES}
    empty_run.put(logits, [0] * len(ODD_IDS), ODD_IDS, attributes=attributes)
    assert [row["id"] for shown_page in pages(empty_run, "id", 1, 0) for row in shown_page["rows"]] == sorted(ODD_IDS)
    for identity in ODD_IDS:
        result = empty_run.ask(lambda view, identity=identity: example(view, OWN, 0, identity, NO_REVIEWS))
        assert result["attributes"] == {name: f"{name}={identity}" for name in ODD_NAMES}
        assert [row["id"] for row in pages(empty_run, "id", 9, 0, Filter(ids=[identity]))[0]["rows"]] == [identity]
    for name in ODD_NAMES:
        where = Filter(attributes={name: f"{name}=%_"})
        assert [row["id"] for row in pages(empty_run, "id", 9, 0, where)[0]["rows"]] == ["%_"], name
        assert pages(empty_run, "id", 9, 0, Filter(attributes={name: "%"}))[0]["rows"] == []


def test_an_example_has_scores_percentiles_and_a_course(runs: TempRuns) -> None:
    now = scored(runs.counted(epoch=3), OWN.alpha, OWN.gamma)
    for identity in ("e5", "e25", "e0", "e119"):
        of = [row for row in scored(runs.counted(), OWN.alpha, OWN.gamma) if row["id"] == identity]
        result = runs.ask(lambda view, identity=identity: example(view, OWN, 3, identity, NO_REVIEWS))
        shown = ([row for row in of if row["epoch"] == 3] or of)[-1]
        assert (result["batch"], result["row"], result["epoch"]) == (shown["batch"], shown["row"], shown["epoch"])
        for name in SCORE_NAMES:
            key = "log_loss" if name == "loss" else name
            below = sum(row[key] < shown[key] for row in now) + 0.5 * sum(row[key] == shown[key] for row in now)
            assert result["percentiles"][name] == pytest.approx(100 * below / len(now)), name
        assert [(row["epoch"], place(row)) for row in result["course"]] == [(row["epoch"], place(row)) for row in of]
        assert all(list(row) == list(SHOWN) for row in result["course"])
        x = np.array(shown["logits"], dtype=np.float64)
        assert result["logits"] == shown["logits"]
        np.testing.assert_allclose(result["probabilities"], np.exp(x - x.max()) / np.exp(x - x.max()).sum())
        orjson.dumps(result)


def test_an_example_without_a_row_in_the_epoch_has_the_scores_of_its_last_row(empty_run: TempRuns) -> None:
    empty_run.put([[0.0, 1.0]], [1], ["a"], epoch=0)
    empty_run.put([[0.0, 1.0], [0.0, 3.0]], [1, -100], ["b", "a"], epoch=1)
    empty_run.put([[0.0, 1.0]], [-100], ["c"], epoch=2)
    result = empty_run.ask(lambda view: example(view, OWN, 1, "a", NO_REVIEWS))
    assert (result["epoch"], result["percentiles"]["p_t"]) == (0, 50)
    no_rows = empty_run.ask(lambda view: example(view, OWN, 2, "a", NO_REVIEWS))
    assert set(no_rows["percentiles"].values()) == {None}
    for identity in ("c", "", "A"):
        with pytest.raises(UnknownExampleError):
            empty_run.ask(lambda view, identity=identity: example(view, OWN, 1, identity, NO_REVIEWS))


def test_a_run_without_stored_logits_has_no_probabilities(empty_run: TempRuns) -> None:
    empty_run.create(run="bare", store_logits=False)
    empty_run.put([[0.0, 1.0]], [1], ["a"], run="bare")
    result = empty_run.ask(lambda view: example(view, OWN, 0, "a", NO_REVIEWS), "bare")
    assert (result["logits"], result["probabilities"]) == (None, None)
