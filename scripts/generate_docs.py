"""Write the generated parts of the documentation from the code.

    python scripts/generate_docs.py

A part is the text between `<!-- generated: NAME -->` and `<!-- end of generated -->` in a page of `docs/`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from service.api.app import create_app
from service.api.metrics import Metrics
from service.cli.main import app as cli
from service.client import LossClient, RunClient
from service.errors import LossServiceError
from service.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end of generated -->)", re.DOTALL)
SCHEMA_TYPES = {"string": "text", "array": "list"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
# The root of the error classes; its docstring describes all of them.
UNEXPECTED = "An unexpected failure of the service."
UNBOUNDED = 2**31 - 1


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a Markdown table."""
    lines = [list(columns), *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    first, *others = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([first, "|---" * len(lines[0]) + "|", *others])


def first_sentence(docstring: str | None) -> str:
    """Return the first sentence of a docstring, in one line."""
    return re.split(r"(?<=\.)\s+(?=[A-Z])|\n\n", inspect.cleandoc(docstring or ""))[0].replace("\n", " ").strip()


def settings() -> str:
    """Write a table of the settings: option, variable, default, meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = ", ".join(field.default) if isinstance(field.default, tuple) else str(field.default)
        option, variable = f"`--{name.replace('_', '-')}`", f"`{ENV_PREFIX}{name.upper()}`"
        rows.append((option, variable, default or "none", field.description or ""))
    return table(("option", "variable", "default", "meaning"), rows)


def errors() -> str:
    """Write a table of the errors of `service.errors`: status, code, class, meaning."""

    def tree(kind: type[LossServiceError]) -> list[type[LossServiceError]]:
        children = [child for child in kind.__subclasses__() if child.__module__ == LossServiceError.__module__]
        return [kind, *(descendant for child in children for descendant in tree(child))]

    kinds = sorted(tree(LossServiceError), key=lambda kind: kind.status)
    meanings = {kind: first_sentence(kind.__doc__) for kind in kinds} | {LossServiceError: UNEXPECTED}
    rows = [(str(kind.status), f"`{kind.code}`", f"`{kind.__name__}`", meanings[kind]) for kind in kinds]
    return table(("status", "code", "Python class", "meaning"), rows)


def commands() -> str:
    """Return the reference of the command that Typer writes."""
    command = typer.main.get_command(cli)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="focal-loss", indent=1)
    text = text.replace("Each setting is an option", "Each [setting](settings.md) is an option")
    # Every command has --help.
    return text.replace("* `--help`: Show this message and exit.\n", "").replace("**Options**:\n\n\n", "").strip()


def _type_of(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        types = [_type_of(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(types))
    bounds = [f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if schema.get(name, UNBOUNDED) < UNBOUNDED]
    return " ".join([SCHEMA_TYPES.get(schema.get("type", ""), schema.get("type", "text")), ", ".join(bounds)]).strip()


def _values_of(schema: Mapping[str, Any]) -> str:
    """Return the type, bounds and default of a parameter as text."""
    default = schema.get("default")
    shown = str(default).lower() if isinstance(default, bool) else default
    return _type_of(schema) + ("" if default in (None, "") else f"; default `{shown}`")


def _resolved(node: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object that a `$ref` points to, or the object itself."""
    while "$ref" in node:
        target: Any = document
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = target
    return node


def routes() -> str:
    """Write a section for each tag of the OpenAPI document: its routes, then their query parameters."""
    document = create_app(Settings(_env_file=None)).openapi()
    by_tag: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((f"{method.upper()} {path}", operation))
    return "\n\n".join(_section(tag, operations, document) for tag, operations in by_tag.items())


def _section(tag: str, operations: list[tuple[str, Mapping[str, Any]]], document: Mapping[str, Any]) -> str:
    parts = [f"### {tag.title()}"]
    parts.append(table(("method and path", "description"), ((f"`{name}`", op["summary"]) for name, op in operations)))
    for name, operation in operations:
        parameters = [_resolved(parameter, document) for parameter in operation.get("parameters", ())]
        names: dict[tuple[str, str], list[str]] = {}
        for parameter in parameters:
            if parameter["in"] == "query":
                schema = _resolved(parameter.get("schema", {}), document)
                description = parameter.get("description") or schema.get("description", "")
                names.setdefault((_values_of(schema), description), []).append(f"`{parameter['name']}`")
        rows = [(", ".join(members), *texts) for texts, members in names.items()]
        if rows:
            parts.append(f"Query parameters of `{name}`:")
            parts.append(table(("parameter", "values", "meaning"), rows))
    return "\n\n".join(parts)


def metrics() -> str:
    """Write a table of the Prometheus metrics."""
    rows = []
    for family in Metrics("cpu").registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((f"`{name}`", family.type, family.documentation))
    return table(("metric", "type", "meaning"), sorted(rows))


def _methods(kind: type, prefix: str) -> str:
    rows = []
    members = {name: member for base in reversed(kind.__mro__) for name, member in vars(base).items()}
    for name, function in members.items():
        if inspect.isfunction(function) and not name.startswith("_") and function.__doc__:
            parameters = list(inspect.signature(function).parameters)[1:]
            rows.append((f"`{prefix}.{name}({', '.join(parameters)})`", first_sentence(function.__doc__)))
    return table(("method", "description"), rows)


def client() -> str:
    """Write tables of the public methods of the clients."""
    return f"{_methods(LossClient, 'client')}\n\nMethods of a run:\n\n{_methods(RunClient, 'run')}"


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (settings, errors, commands, routes, metrics, client)
}


def rendered(page: str) -> str:
    """Return the text of a page with its generated parts written anew from the code."""
    return PART.sub(lambda match: f"{match[1]}{match[2]}\n{PARTS[match[1]]()}\n\n", page)


def main() -> None:
    """Write all pages; print those that changed."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        old = path.read_text()
        new = rendered(old)
        if new != old:
            path.write_text(new)
            print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
