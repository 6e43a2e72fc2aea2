"""The options of `focal-loss score` for rows of many elements, as members of a request."""

from __future__ import annotations

from collections.abc import Sequence

from service.cli.errors import UsageError
from service.cli.options import parse_within
from service.schema.structure import Layout


def structure_of(
    layout: Layout, divisor: str | None, within: str, elements: Sequence[str] | None, top_regions: int | None
) -> dict[str, object]:
    """The members of a request for these options; those with their default are left out.

    Args:
        layout: Layout of the files.
        divisor: A name, or the text of a number; None: the default.
        within: A name, or `top_share=` and a number.
        elements: Names of outputs of each element; None: none.
        top_regions: Largest number of regions of each row; None: see `RequestOptions`.

    Raises:
        UsageError: The text of a number is none.
    """
    members: dict[str, object] = {
        "layout": layout,
        "divisor": divisor if divisor is None or divisor.isalpha() else _number(divisor, "--divisor"),
        "within": parse_within(within),
        "elements": list(elements) if elements else None,
        "top_regions": top_regions,
    }
    defaults = {"layout": "rows", "within": "mean"}
    return {name: value for name, value in members.items() if value is not None and value != defaults.get(name)}


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        raise UsageError(f"{option}: {text!r} is not a number") from err
