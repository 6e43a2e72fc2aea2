"""Which columns of a file the user means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.cli.score.errors import UsageError
from service.formats.columns import TARGET_NAMES, ResolvedColumns, guess_id, guess_logits, guess_targets


@dataclass(frozen=True)
class ColumnNames:
    """What the user says of the columns; None: to be guessed.

    Args:
        logits: One list column, or the columns of the classes in their order.
        targets: One column.
        id: One column, or None where there may be none.
        attributes: Further columns to read; None: all that are left.
    """

    logits: tuple[str, ...] | None = None
    targets: str | None = None
    id: str | None = None
    attributes: tuple[str, ...] | None = ()

    def resolve(self, names: Sequence[str], where: str) -> ResolvedColumns:
        """The columns of a file with these names.

        Raises:
            UsageError: A name that is not there, or nothing that could be guessed without doubt.
        """
        for name in (*(self.logits or ()), self.targets, self.id, *(self.attributes or ())):
            if name is not None and name not in names:
                raise UsageError(f"{where}: no column {name!r}; there are {', '.join(map(repr, names))}")
        logits = self.logits or _logits(names, where)
        targets = self.targets or _targets(names, where)
        identity = self.id or guess_id(names)
        used = {*logits, targets, identity}
        attributes = names if self.attributes is None else self.attributes
        return ResolvedColumns(logits, targets, identity, tuple(name for name in attributes if name not in used))


def _logits(names: Sequence[str], where: str) -> tuple[str, ...]:
    found = guess_logits(names)
    if not found:
        raise UsageError(
            f"{where}: name the logits with --logits: no column 'logits' and no logit_0, logit_1, ... among "
            f"{', '.join(map(repr, names))}"
        )
    return found


def _targets(names: Sequence[str], where: str) -> str:
    found = guess_targets(names)
    if len(found) == 1:
        return found[0]
    fault = f"both {found[0]!r} and {found[1]!r} could be it" if found else f"no column {', '.join(TARGET_NAMES)}"
    raise UsageError(f"{where}: name the targets with --targets: {fault}")
