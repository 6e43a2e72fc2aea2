"""Worst values of a JSON schema: one place of the value is as large as the schema and a number of bytes allow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Schema = Mapping[str, Any]
# Deeper than any parser of JSON accepts.
DEEPEST = 100_000
LARGEST_NUMBERS = (-0.0, 1e308, -1e308, 5e-324)


class Values:
    """Makes values of schemas.

    Args:
        definitions: Schemas by the last part of their reference.
        size: Bytes that a value should have in JSON.
    """

    def __init__(self, definitions: Mapping[str, Schema], size: int) -> None:
        self._definitions = definitions
        self._size = size
        # Definitions whose values are being made.
        self._inside: set[str] = set()

    def worst(self, schema: Schema) -> Iterator[tuple[str, Any]]:
        """Each large value, with the place that makes it large; not of a definition in itself."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in self._inside:
                self._inside.add(name)
                yield from self.worst(self._definitions[name])
                self._inside.remove(name)
            return
        if "enum" in schema or "const" in schema:
            return
        for kind in _alternatives(schema):
            if kind != schema:
                yield from self.worst(kind)
        match schema.get("type"):
            case "object":
                yield from self._worst_objects(schema)
            case "array":
                yield from self._worst_arrays(schema)
            case "string":
                yield from self._worst_texts(schema)
            case "integer":
                yield from (("integer", value) for value in _limits(schema))
            case "number":
                yield from (("number", value) for value in (*_limits(schema), *LARGEST_NUMBERS))
            case None if not _alternatives(schema):
                yield from self._worst_json()

    def smallest(self, schema: Schema) -> Any:
        """A value with the required members only."""
        return self._example(schema, rich=False)

    def richest(self, schema: Schema) -> Any:
        """A value with all members."""
        return self._example(schema, rich=True)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return schema

    def _worst_objects(self, schema: Schema) -> Iterator[tuple[str, Any]]:
        smallest = self.smallest(schema)
        for name, member in schema.get("properties", {}).items():
            for place, value in self.worst(member):
                yield f"{name}: {place}", smallest | {name: value}
        further = schema.get("additionalProperties", not schema.get("properties"))
        if further is not False:
            member = self.smallest({} if further is True else further)
            count = self._size // (len(orjson.dumps(member)) + 12)
            yield f"{count} members", {f"member{number}": member for number in range(count)}
            yield "long name", {"x" * self._size: member}

    def _worst_arrays(self, schema: Schema) -> Iterator[tuple[str, Any]]:
        items = schema.get("items", {})
        for kind, item in (("small", self.smallest(items)), ("rich", self.richest(items))):
            count = min(self._size // (len(orjson.dumps(item)) + 1), schema.get("maxItems", self._size))
            yield f"{count} {kind} items", [item] * count
        if self._resolved(items).get("type") == "string":
            count = min(self._size // 11, schema.get("maxItems", self._size))
            yield f"{count} different items", [f"{number:08}" for number in range(count)]
            yield (
                f"{count} items, the last two equal",
                [f"{max(1, number):08}" for number in range(count, 0, -1)] + ["x"] * 2,
            )
        if self._resolved(items).get("type") not in ("integer", "number"):
            for place, value in self.worst(items):
                yield f"item of {place}", [value]

    def _worst_texts(self, schema: Schema) -> Iterator[tuple[str, str]]:
        longest = min(self._size, schema.get("maxLength", self._size))
        if "pattern" in schema:
            yield from (("long text", text) for text in texts_of_pattern(schema["pattern"], longest))
        else:
            for kind, character in (("letters", "x"), ("control characters", "\x1b"), ("emoji", "\U0001f600")):
                yield f"{longest} {kind}", character * (longest // len(orjson.dumps(character).decode()))

    def _worst_json(self) -> Iterator[tuple[str, Any]]:
        yield "long text", "x" * self._size
        yield "empty lists", [[]] * (self._size // 3)
        yield "members", {f"m{number}": 0 for number in range(self._size // 12)}
        for depth in (250, DEEPEST):
            yield f"{depth} lists deep", orjson.Fragment(b"[" * depth + b"]" * depth)
            yield f"{depth} objects deep", orjson.Fragment(b'{"a":' * depth + b"0" + b"}" * depth)

    def _example(self, schema: Schema, *, rich: bool) -> Any:
        schema = self._resolved(schema)
        if "enum" in schema or "const" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if kinds := _alternatives(schema):
            return self._example(kinds[0], rich=rich)
        kind = schema.get("type")
        if kind == "object":
            members = schema.get("properties", {})
            names = members if rich else schema.get("required", ())
            return {name: self._example(members[name], rich=rich) for name in names}
        if kind == "array":
            return [self._example(schema.get("items", {}), rich=rich)] * max(int(rich), schema.get("minItems", 0))
        if kind in ("integer", "number"):
            return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        return {"string": "x", "boolean": False}.get(str(kind))


def texts_of_pattern(pattern: str, size: int) -> list[str]:
    """Long texts that match the pattern: its words and digits, repeated with commas."""
    words = re.findall(r"[a-z][a-z0-9_]+", pattern)
    items = ["1", "x", *words]
    found = []
    for item in [*items, ",".join(f"-{word}" for word in words), ",".join(words)]:
        count = max(1, size // (len(item) + 1))
        for text in (",".join([item] * count), item * max(1, size // max(1, len(item)))):
            if len(text) <= size + 10 and re.search(pattern, text):
                found.append(text)
    # One word is as good as another.
    return sorted(found, key=len)[-3:]


def _alternatives(schema: Schema) -> list[Schema]:
    kinds = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if isinstance(schema.get("type"), list):
        kinds += [{"type": kind} for kind in schema["type"]]
    return [kind for kind in kinds if kind.get("type") != "null"]


def _limits(schema: Schema) -> list[float]:
    bounds = (schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMaximum"), 2**63 - 1)
    return [bound for bound in bounds if bound is not None]
