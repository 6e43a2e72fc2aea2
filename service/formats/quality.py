"""The lists with quality values of `Accept` and `Accept-Encoding` (RFC 9110, 12.4.2)."""

from __future__ import annotations


def qualities(header: str) -> dict[str, float]:
    """Parse a list such as `text/csv;q=0.5, */*` to the quality of each name.

    Names are in lower case, qualities in [0, 1]: 1 without `q`, 0 if `q` is no number. The first of two equal names
    counts. Other parameters are ignored.
    """
    elements = [_element(text) for text in header.split(",") if text.strip()]
    return dict(reversed(elements))


def _element(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(max(0.0, float(value)), 1.0)
            except ValueError:
                return name, 0.0
    return name, 1.0
