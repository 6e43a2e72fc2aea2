"""Base class and field types of the query models in `service.api.queries`.

A parameter is a text: these types accept one spelling of each value, so that `1.0`, `+1` and `yes` are errors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic import GetJsonSchemaHandler as JsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from starlette.datastructures import QueryParams
from starlette.requests import Request

from service.errors import InvalidRequestError
from service.queries.filters import MAX_ATTRIBUTES
from service.schema.faults import fault

LARGEST = 2**31 - 1
# Parts of one parameter.
MAX_NAMES = 64
MAX_INTEGERS = 10_000
MAX_WEIGHTS = 30_000
ATTRIBUTE_PREFIX = "attribute."


class QueryModel(BaseModel):
    """The query of a route; an unknown parameter is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def known_names(cls) -> list[str]:
        """Names of the parameters, for the error about an unknown one."""
        return list(cls.model_fields)

    @classmethod
    def repeatable_names(cls) -> list[str]:
        """Names of the parameters that are lists: one value for each time."""
        return [name for name, field in cls.model_fields.items() if is_list(field.annotation)]


def is_list(annotation: object) -> bool:
    """True for the type of a list, also in a union or with annotations."""
    if get_origin(annotation) is list:
        return True
    return any(map(is_list, get_args(annotation)))


def _check_attribute(name: str) -> str:
    if not name.startswith(ATTRIBUTE_PREFIX):
        raise PydanticCustomError("extra_forbidden", "unknown query parameter")
    return name


class AttributeFilters(QueryModel):
    """A query that filters by attributes: up to `MAX_ATTRIBUTES` parameters `attribute.NAME=text`."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[Annotated[str, AfterValidator(_check_attribute)], str]

    @model_validator(mode="after")
    def _has_few_filters(self) -> Self:
        if len(self.__pydantic_extra__) > MAX_ATTRIBUTES:
            raise PydanticCustomError(
                "too_many", "at most {most} filters by attribute are possible", {"most": MAX_ATTRIBUTES}
            )
        return self

    @classmethod
    def known_names(cls) -> list[str]:
        """Names of the parameters, for the error about an unknown one."""
        return [*super().known_names(), f"{ATTRIBUTE_PREFIX}NAME"]

    @property
    def attributes(self) -> dict[str, str]:
        """Text of each attribute by its name."""
        return {name.removeprefix(ATTRIBUTE_PREFIX): text for name, text in self.__pydantic_extra__.items()}


# An object in form style is one parameter for each of its members.
ATTRIBUTE_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "attributes",
            "in": "query",
            "required": False,
            "style": "form",
            "explode": True,
            "description": "`attribute.NAME=text`: only examples with this text as their attribute NAME, as last sent",
            "schema": {
                "type": "object",
                "patternProperties": {r"^attribute\.": {"type": "string"}},
                "additionalProperties": False,
            },
        }
    ]
}


@dataclass(frozen=True)
class Digits:
    """Annotation of an integer that is written in digits only, with its range."""

    least: int = 0
    most: int = LARGEST

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: JsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"minimum": self.least, "maximum": self.most}

    def parse(self, value: object) -> int:
        """The integer; raises `PydanticCustomError` if it is not one of the range."""
        number = integer_of(str(value))
        if number is None or not self.least <= number <= self.most:
            bounds = {"least": self.least, "most": self.most}
            raise PydanticCustomError("digits", "should be an integer from {least} to {most}", bounds)
        return number


def integer_of(text: str) -> int | None:
    """The number of a text of ASCII digits, with any zeros before it; None for another text and from 10^19 on."""
    digits = text.lstrip("0") or text[-1:]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _flag(value: object) -> bool:
    if value not in ("true", "false"):
        raise PydanticCustomError("flag", "should be true or false")
    return value == "true"


Flag = Annotated[bool, BeforeValidator(_flag)]


def _latest(value: object) -> object:
    return None if value == "last" else value


Epoch = Annotated[
    Annotated[int, Digits()] | None,
    BeforeValidator(_latest),
    WithJsonSchema({"anyOf": [{"const": "last"}, {"type": "integer", "minimum": 0, "maximum": LARGEST}]}),
]


def list_pattern(item: str) -> str:
    """A regular expression for items with commas between them."""
    return rf"^ *{item} *(, *{item} *)*$"


def optional_pattern(pattern: str) -> str:
    """The regular expression for a parameter whose empty text means the same as its absence or an empty list."""
    return f"^$|{pattern}"


def keys_pattern(known: Iterable[str]) -> str:
    """A regular expression for sort keys with commas between them, a minus before those in descending order."""
    return list_pattern(f"-?({'|'.join(known)})")


# No two ways to match a text: matching takes linear time.
_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
_WEIGHTS = f"^(none)?$|{list_pattern(_NUMBER)}"
_WEIGHT = re.compile(f" *{_NUMBER} *")


def _check_weights(text: str) -> str:
    parts = text.split(",")
    _at_most(parts, MAX_WEIGHTS, "weights")
    # Weight by weight: `re` takes over 1 KB for each repetition of a group.
    if text not in ("none", "") and not all(map(_WEIGHT.fullmatch, parts)):
        raise PydanticCustomError("weights", "should be numbers with commas between them, or none")
    return text


Weights = Annotated[str, AfterValidator(_check_weights), Field(json_schema_extra={"pattern": _WEIGHTS})]


def weights(text: str | None) -> tuple[float, ...] | None:
    """The weights of a text such as `1,2.5`; `()` for `none`, None for None."""
    if text is None:
        return None
    return () if text in ("none", "") else tuple(float(part) for part in text.split(","))


def _at_most(parts: Sequence[str], most: int, kind: str) -> None:
    if len(parts) > most:
        limits = {"most": most, "kind": kind, "number": len(parts)}
        raise PydanticCustomError("too_many", "should have at most {most} {kind}, has {number}", limits)


def _check_integers(text: str) -> str:
    integers(text)
    return text


Integers = Annotated[
    str, AfterValidator(_check_integers), Field(json_schema_extra={"pattern": r"^[0-9]{1,9}(,[0-9]{1,9})*$"})
]


def integers(text: str | None) -> list[int] | None:
    """The integers of a text such as `1,25`; None for None."""
    if text is None:
        return None
    parts = text.split(",")
    _at_most(parts, MAX_INTEGERS, "numbers")
    return [Digits().parse(part) for part in parts]


def _check_names(text: str) -> str:
    _at_most(text.split(","), MAX_NAMES, "names")
    return text


# Names with commas between them.
Names = Annotated[str, AfterValidator(_check_names)]
FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


def single_values(query: QueryParams, repeatable: Collection[str] = ()) -> dict[str, str]:
    """The parameters of a query by name.

    Args:
        query: The query.
        repeatable: Names of parameters that may be repeated.

    Raises:
        InvalidRequestError: Another parameter is repeated.
    """
    values: dict[str, str] = {}
    for name, value in query.multi_items():
        if name in values and name not in repeatable:
            msg = f"query parameter {name[:100]!r} is repeated"
            raise fault(InvalidRequestError, msg, "query", name[:100])
        values[name] = value
    return values


async def refuse_repeated_parameters(request: Request) -> None:
    """Dependency of routes with a query: FastAPI would use the last of repeated parameters.

    Parameters that are lists in the route's model may be repeated.
    """
    repeatable = {name for model in query_models(request) for name in model.repeatable_names()}
    single_values(request.query_params, repeatable)


def query_models(request: Request) -> list[type[QueryModel]]:
    """The query models of the request's route."""
    kinds = [field.field_info.annotation for field in request.scope["route"].dependant.query_params]
    return [kind for kind in kinds if issubclass(kind, QueryModel)]
