"""Labels in the form in which a file has them: by name or by number, as texts, numbers or booleans."""

from __future__ import annotations

from typing import TypeAlias

from service.cli.relabel.corrections import Classes
from service.formats.labels import BOOLEANS, ClassNames, label_of_text

# The label of an example, or nested lists of those of its elements.
Label: TypeAlias = "str | int | float | bool | list[Label] | None"


def labels_to_use(
    value: Label, given: Classes, used: Classes, names: ClassNames | None, ignored: int | None = None
) -> Label:
    """The label to use in the form of that of a file; of an example with many elements nested lists of them.

    Args:
        value: The label in the file.
        given: The class in the run; None for an ignored element, which stays as it is.
        used: The class to use; None if there is none.
        names: Names of the classes.
        ignored: Label of elements without a class to use; None for no label.

    Raises:
        ValueError: The file has another label than the run.
    """
    if isinstance(given, list):
        if not isinstance(value, list) or len(value) != len(given):
            raise ValueError
        parts = used if isinstance(used, list) else [None] * len(given)
        return [labels_to_use(*part, names, ignored) for part in zip(value, given, parts, strict=True)]
    if given is None or (used is None and value in (None, "")):
        return None if value == "" else value
    label = class_of(value, names)
    if label is None or label not in (given, ignored if used is None else used):
        raise ValueError
    if used is None:
        return None if ignored is None else label_like(value, ignored, None)
    return value if used == label or isinstance(used, list) else label_like(value, used, names)


def class_of(value: Label, names: ClassNames | None) -> int | None:
    """The class of a label in a file; None if it is none."""
    label = label_of_text(value, names) if isinstance(value, str) else value
    if label is None or isinstance(label, list) or label % 1:
        return None
    return int(label)


def label_like(value: Label, label: int, names: ClassNames | None) -> Label:
    """A class in the form of another label.

    Args:
        value: A label of the file.
        label: The class.
        names: Names of the classes.

    Returns:
        A name in place of a name, a number of the same type in place of a number. `true` and `false` are 1 and 0.
    """
    if isinstance(value, str):
        return _text_like(value, label, names)
    if isinstance(value, bool):
        return bool(label) if label in (0, 1) else label
    return float(label) if isinstance(value, float) else label


def _text_like(text: str, label: int, names: ClassNames | None) -> str:
    bare = text.strip()
    if names is not None and names.named(text) is not None:
        new = names.names[label]
    elif bare.lower() in BOOLEANS and label in BOOLEANS.values():
        new = next(name for name, number in BOOLEANS.items() if number == label)
        new = new.upper() if bare.isupper() else new.title() if bare.istitle() else new
    else:
        # 1.0 and 1,0 keep their decimals.
        mark = next((mark for mark in ".," if mark in bare), "")
        new = f"{label}{mark}{'0' if mark else ''}"
    exact = names is not None and text in names.names
    return new if exact or not bare else text.replace(bare, new)
