"""Query parameters, read one by one with errors that name them."""

from __future__ import annotations

from typing import NoReturn

from starlette.requests import Request

from service.errors import InvalidRequestError
from service.runs.queries import View, Weighting

LARGEST = 2**31 - 1
# Rows of one page.
MAX_LIMIT = 100_000
# Prefix of the parameters that filter by an attribute.
ATTRIBUTE = "attribute."


class Query:
    """The query of a request.

    Args:
        request: Whose.
        known: The names that it may have; a name that ends with `.` stands for all that begin with it.

    Raises:
        InvalidRequestError: It has another one, or one twice.
    """

    def __init__(self, request: Request, *known: str) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if not any(name == one or (one.endswith(".") and name.startswith(one)) for one in known):
                _refuse(name, f"unknown query parameter {name[:100]!r}; known are {', '.join(known)}")
            if name in self._values:
                _refuse(name, f"query parameter {name[:100]!r} stands twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def names(self, name: str) -> list[str] | None:
        """Names with commas between them."""
        text = self._values.get(name)
        return None if text is None else [part.strip() for part in text.split(",") if part.strip()]

    def below(self, prefix: str) -> dict[str, str]:
        """What begins with a prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self._values.items() if name.startswith(prefix)}

    def integer(self, name: str, *, least: int = 0, most: int = LARGEST) -> int | None:
        text = self._values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
            _refuse(name, f"{name} is an integer from {least} to {most}, got {text[:50]!r}")
        return int(text)

    def integers(self, name: str) -> list[int] | None:
        """Integers with commas."""
        text = self._values.get(name)
        if text is None:
            return None
        parts = text.split(",")
        if not all(part.isascii() and part.isdigit() and int(part[:20]) <= LARGEST for part in parts):
            _refuse(name, f"{name} are integers from 0 to {LARGEST} with commas, got {text[:50]!r}")
        return [int(part) for part in parts]

    def number(self, name: str) -> float | None:
        text = self._values.get(name)
        return None if text is None else _number(name, text)

    def flag(self, name: str) -> bool | None:
        text = self._values.get(name)
        if text is None:
            return None
        if text not in ("true", "false"):
            _refuse(name, f"{name} is true or false, got {text[:50]!r}")
        return text == "true"

    def epoch(self, view: View, name: str = "epoch") -> int:
        """`last` (the default) or a number.

        Raises:
            UnknownEpochError: The run has not this one.
        """
        wanted = None if self._values.get(name, "last") == "last" else self.integer(name)
        return view.snapshot.epoch(wanted)

    def weighting(self, view: View) -> Weighting:
        """The run's own, or what `alpha` and `gamma` ask for.

        Raises:
            InvalidConfigError: They mean nothing, or nothing for this run.
        """
        text = self._values.get("alpha")
        alpha = None
        if text is not None:
            alpha = () if text in ("none", "") else tuple(_number("alpha", part) for part in text.split(","))
        return view.weighting(alpha, self.number("gamma"))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        _refuse(name, f"{name}: {text.strip()[:50]!r} is not a number")


def _refuse(name: str, msg: str) -> NoReturn:
    raise InvalidRequestError(msg, errors=[{"loc": ["query", name[:100]], "msg": msg}])
