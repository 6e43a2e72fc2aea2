"""The tree of error classes: its description, its codes, and the problem that it becomes on the wire."""

from __future__ import annotations

import re

import pytest

from service import errors
from service.errors import InvalidConfigError, InvalidLogitError, LossServiceError, ReviewConflictError


def tree(kind: type[LossServiceError] = LossServiceError, depth: int = 0) -> list[tuple[int, type[LossServiceError]]]:
    """Every class of `service.errors`, with its depth in the tree."""
    classes = [(depth, kind)]
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            classes += tree(child, depth + 1)
    return classes


CLASSES = [kind for _, kind in tree()]


def test_the_docstring_describes_the_tree() -> None:
    described, above = set(), []
    for line in re.findall(r"^( *)- (\w+) +(\d{3}) (\w+)", errors.__doc__ or "", re.MULTILINE):
        indent, name, status, code = line
        depth = len(indent) // 2
        above = [*above[:depth], name]
        described.add((name, above[depth - 1] if depth else "Exception", int(status), code))
    actual = {
        (kind.__name__, next(base.__name__ for base in kind.__bases__), kind.status, kind.code) for kind in CLASSES
    }
    assert described == actual


def test_codes_are_unique_words() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    for code in codes:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


def test_codes_of_the_contract_exist() -> None:
    assert {"unknown_config", "invalid_logit", "invalid_target", "queue_full"} <= {kind.code for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_has_its_own_code_and_title(kind: type[LossServiceError]) -> None:
    assert "code" in vars(kind)
    assert "title" in vars(kind)
    assert 400 <= kind.status <= 599


@pytest.mark.parametrize("kind", CLASSES)
def test_problem_has_all_members(kind: type[LossServiceError]) -> None:
    error = kind("what is wrong", errors=[{"loc": ["batches", 0], "msg": "this"}], headers={"Retry-After": "1"})
    assert error.problem() == {
        "type": f"urn:focal-loss-service:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what is wrong",
        "code": kind.code,
        "errors": [{"loc": ["batches", 0], "msg": "this"}],
        **({"current": None} if kind is ReviewConflictError else {}),
    }
    assert str(error) == "what is wrong"
    assert error.headers == {"Retry-After": "1"}


def test_problem_without_errors_has_no_errors_member() -> None:
    assert "errors" not in LossServiceError("what is wrong").problem()
    assert LossServiceError("what is wrong").headers == {}


def test_instances_share_no_state() -> None:
    first, second = InvalidLogitError("first"), InvalidLogitError("second")
    first.errors.append({"loc": [], "msg": ""})
    first.headers["Connection"] = "close"
    assert (second.errors, second.headers) == ([], {})


def test_invalid_config_error_is_a_value_error() -> None:
    assert issubclass(InvalidConfigError, ValueError)
