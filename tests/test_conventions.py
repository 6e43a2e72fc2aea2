"""Conventions of the code: docstrings that name their subject, and typed public signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A docstring names its subject: "True if ...", not "Whether ...".
CLAUSES = ("What", "Whether", "Which", "How", "Who", "Where", "When")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each module, by path."""
    paths = sorted((ROOT / "service").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def definitions(node: ast.AST, *, public: bool = True) -> Iterator[tuple[Definition, bool]]:
    """All functions and classes in a syntax tree, outermost first; True for those without a leading underscore."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            is_public = public and (not child.name.startswith("_") or child.name == "__init__")
            yield child, is_public
            # Functions inside functions are private.
            yield from definitions(child, public=is_public and isinstance(child, ast.ClassDef))


def annotations(definition: Definition) -> Iterator[ast.expr]:
    """The annotations of a function's arguments and result, or of a class's public attributes."""
    if isinstance(definition, ast.ClassDef):
        for statement in definition.body:
            if isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.target).startswith("_"):
                yield statement.annotation
        return
    arguments = definition.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    yield from (argument.annotation for argument in named if argument is not None and argument.annotation is not None)
    if definition.returns is not None:
        yield definition.returns


def test_no_docstring_begins_with_a_clause() -> None:
    faults = []
    for name, tree in trees().items():
        documented = [tree, *(each for each, _ in definitions(tree))]
        docstrings = [ast.get_docstring(each, clean=False) for each in documented]
        faults += [(name, text) for text in docstrings if text and text.split(maxsplit=1)[0].rstrip(",") in CLAUSES]
    assert faults == []


def test_no_public_signature_has_an_untyped_dictionary() -> None:
    faults = []
    for name, tree in trees().items():
        for each in (each for each, is_public in definitions(tree) if is_public):
            texts = [ast.unparse(annotation) for annotation in annotations(each)]
            faults += [(name, each.name, text) for text in texts if "dict[str, Any]" in text]
    assert faults == []


def test_the_checks_find_what_they_look_for() -> None:
    tree = ast.parse("""
class A:
    x: dict[str, Any]
    def f(self, *, y: list[dict[str, Any]]) -> None:
        def g(z: dict[str, Any]): ...
    def _h(self, z: dict[str, Any]): ...
""")
    public = [each for each, is_public in definitions(tree) if is_public]
    assert [each.name for each in public] == ["A", "f"]
    texts = [ast.unparse(annotation) for each in public for annotation in annotations(each)]
    assert texts == ["dict[str, Any]", "list[dict[str, Any]]", "None"]
