"""The error tree: its drawing, its codes, and the one shape on the wire."""

from __future__ import annotations

import re

import pytest

from service import errors
from service.errors import InvalidConfigError, InvalidLogitError, LossServiceError


def tree(kind: type[LossServiceError] = LossServiceError, depth: int = 0) -> list[tuple[int, type[LossServiceError]]]:
    """Every class of `service.errors` and how deep it lies."""
    found = [(depth, kind)]
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            found += tree(child, depth + 1)
    return found


CLASSES = [kind for _, kind in tree()]


def test_the_drawing_is_the_tree() -> None:
    drawn, above = set(), []
    for line in re.findall(r"^( *)- (\w+) +(\d{3}) (\w+)", errors.__doc__ or "", re.MULTILINE):
        indent, name, status, code = line
        depth = len(indent) // 2
        above = [*above[:depth], name]
        drawn.add((name, above[depth - 1] if depth else "Exception", int(status), code))
    actual = {
        (kind.__name__, next(base.__name__ for base in kind.__bases__), kind.status, kind.code) for kind in CLASSES
    }
    assert drawn == actual


def test_codes_are_unique_stable_words() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    for code in codes:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


def test_the_codes_that_the_contract_names() -> None:
    assert {"unknown_config", "invalid_logit", "invalid_target", "queue_full"} <= {kind.code for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_each_says_its_status_code_and_title_itself_or_inherits_only_the_status(kind: type[LossServiceError]) -> None:
    assert "code" in vars(kind)
    assert "title" in vars(kind)
    assert 400 <= kind.status <= 599


@pytest.mark.parametrize("kind", CLASSES)
def test_the_shape_on_the_wire(kind: type[LossServiceError]) -> None:
    error = kind("what is wrong", errors=[{"loc": ["batches", 0], "msg": "this"}], headers={"Retry-After": "1"})
    assert error.problem() == {
        "type": f"urn:focal-loss-service:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what is wrong",
        "code": kind.code,
        "errors": [{"loc": ["batches", 0], "msg": "this"}],
    }
    assert str(error) == "what is wrong"
    assert error.headers == {"Retry-After": "1"}


def test_errors_are_left_out_where_there_are_none() -> None:
    assert "errors" not in LossServiceError("what is wrong").problem()
    assert LossServiceError("what is wrong").headers == {}


def test_two_errors_share_nothing() -> None:
    one, other = InvalidLogitError("one"), InvalidLogitError("other")
    one.errors.append({"loc": [], "msg": ""})
    one.headers["Connection"] = "close"
    assert (other.errors, other.headers) == ([], {})


def test_a_bad_configuration_is_a_value_error_as_well() -> None:
    assert issubclass(InvalidConfigError, ValueError)
