"""Types of the parameters in paths, for the documentation; the store checks the names and raises the errors."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor

from service.api.http.query_types import LARGEST, integer_of
from service.errors import InvalidNameError
from service.runs.names import NAME
from service.schema.faults import fault


class TextConvertor(Convertor[str]):
    """Any text. Starlette's `path` stops before a line feed, which ids may contain."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """The text itself."""
        return value

    def to_string(self, value: str) -> str:
        """The text itself."""
        return value


register_url_convertor("text", TextConvertor())

_NAME = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_ID = {"type": "string", "minLength": 1}


def epoch_number(text: str) -> int:
    """The number of an epoch in a path.

    Raises:
        InvalidNameError: It is not an integer from 0 to 2 147 483 647.
    """
    number = integer_of(text)
    if number is None or number > LARGEST:
        raise fault(InvalidNameError, f"an epoch is an integer from 0 to {LARGEST}, got {text[:50]!r}", "epoch")
    return number


RunName = Annotated[str, WithJsonSchema(_NAME), Path(description="Name of the run")]
OtherRunName = Annotated[str, WithJsonSchema(_NAME), Path(description="Name of the run to compare with")]
BatchName = Annotated[str, WithJsonSchema(_NAME), Path(description="Name of the batch")]
QueueName = Annotated[str, WithJsonSchema(_NAME), Path(description="Name of the queue")]
EpochNumber = Annotated[
    str,
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": LARGEST}),
    Path(description="Number of the epoch"),
]
ExampleId = Annotated[str, WithJsonSchema(_ID), Path(description="Id of the example; it may contain slashes")]
ConfigId = Annotated[str, WithJsonSchema(_ID), Path(description="Id of the configuration")]
ModelName = Annotated[str, WithJsonSchema(_ID), Path(description="`focal_loss`, or the id of a stored configuration")]
