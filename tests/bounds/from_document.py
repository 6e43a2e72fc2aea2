"""Worst requests of a route by its OpenAPI operation: each parameter and each part of a JSON body, made large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from tests.bounds.from_schema import Values
from tests.bounds.worst_request import LONGEST_URL, MB, NEW, WorstRequest, json_request

Document = Mapping[str, Any]
# Attributes of a filter may have any name.
FURTHER_PARAMETERS = "attributes"


def worst_requests(
    document: Document, route: str, size: int, paths: Mapping[str, str], *, bodies: bool = True
) -> Iterator[WorstRequest]:
    """The worst requests of a route that the document describes.

    Args:
        document: The OpenAPI document.
        route: Method and path.
        size: Bytes of a body.
        paths: Values of the parameters of paths.
        bodies: False for the smallest body only.
    """
    method, _, template = route.partition(" ")
    operation = document["paths"].get(template, {}).get(method.lower())
    if operation is None:
        return
    definitions = document["components"]["schemas"]
    # The stored runs and queues stay for other requests.
    names = paths | ({"run": NEW} if method == "DELETE" or route == "PUT /runs/{run}" else {})
    names |= {"queue_name": NEW} if method == "PATCH" else {}
    path = template.format_map({name: quote(value, safe="{}") for name, value in names.items()})
    content = operation.get("requestBody", {}).get("content", {})
    values = Values(definitions, size)
    smallest = values.smallest(content["application/json"]["schema"]) if "application/json" in content else None

    def request(name: str, path: str, value: Any) -> WorstRequest:
        return WorstRequest(method, name, path) if value is None else json_request(method, name, path, value)

    yield request("smallest", path, smallest)
    yield request("unknown parameters", path + "?" + "&".join(f"u{number}=" for number in range(9_000)), smallest)
    for parameter in operation.get("parameters", ()):
        schema = definitions.get(parameter["schema"].get("$ref", "").rpartition("/")[2], parameter["schema"])
        for place, query in _queries(parameter["name"], parameter["in"], schema, min(size, LONGEST_URL)):
            yield request(f"query {parameter['name']}: {place}", f"{path}?{query}", smallest)
        if parameter["in"] == "path" and parameter["name"] in template:
            long = template.format_map(names | {parameter["name"]: "x" * min(size, LONGEST_URL)})
            yield request(f"path {parameter['name']}: long", long, smallest)
    if smallest is not None and bodies:
        for place, value in values.worst(content["application/json"]["schema"]):
            yield request(f"JSON {place}", path, value)
        for name, text in (("spaces", b" " * size), ("one string", b'"' + b"x" * size + b'"'), ("digits", b"9" * size)):
            yield request(f"JSON {name}", path, text)


def _queries(name: str, place: str, schema: Mapping[str, Any], size: int) -> Iterator[tuple[str, str]]:
    if place != "query":
        return
    if name == FURTHER_PARAMETERS:
        count = size // 19
        yield f"{count} filters", "&".join(f"attribute.a{number}=x" for number in range(count))
        yield "few filters", "&".join(f"attribute.a{number}=x" for number in range(8))
        return
    for value in schema.get("enum", ()):
        yield str(value), f"{name}={value}"
    for kind, value in Values({}, size).worst(schema):
        # A query has letters, which need no encoding, and at most the bytes of the headers.
        text = quote(str(value), safe=",-")
        if len(text) <= LONGEST_URL + MB // 1000:
            yield kind, f"{name}={text}"
    if schema.get("type") in ("integer", "number"):
        for digits in ("0" * 30 + "9" * 30, "0" * 5000 + "1", "1" * 5000):
            yield "digits", f"{name}={digits}"
