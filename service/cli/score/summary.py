"""What a scoring run says at its end: the loss, the worst classes, the hardest examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from service.schema.config import Reduction
from service.schema.result import divisor, reduced

CLASSES_SHOWN = 10


@dataclass
class Summary:
    """Sums over all parts; what it keeps grows with the classes, not with the rows.

    Args:
        reduction: Of the configuration.
        top_k: Hardest examples to keep.
        ignore_index: The target that is no class.
    """

    reduction: Reduction
    top_k: int
    ignore_index: int | None = None
    num_examples: int = 0
    num_ignored: int = 0
    num_excluded: int = 0
    loss_sum: float = 0.0
    alpha_sum: float = 0.0
    of_class: dict[int, tuple[int, float]] = field(default_factory=dict)
    hardest: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def divisor(self) -> float:
        """What turns a loss into a contribution to the whole."""
        return divisor(self.reduction, self.alpha_sum, self._num_counted)

    @property
    def loss(self) -> float | None:
        """Over all rows of all files."""
        return reduced(self.reduction, self.loss_sum, self.alpha_sum, self._num_counted)

    @property
    def _num_counted(self) -> int:
        return self.num_examples - self.num_ignored - self.num_excluded

    def add(self, part: pa.Table) -> None:
        """Count a part: its metadata has the sums, its columns the rest."""
        metadata = {name.decode(): value.decode() for name, value in part.schema.metadata.items()}
        first = self.num_examples
        self.num_examples += int(metadata["num_examples"])
        self.num_ignored += int(metadata["num_ignored"])
        self.num_excluded += int(metadata["num_excluded"])
        self.loss_sum += float(metadata["loss_sum"])
        self.alpha_sum += float(metadata["alpha_sum"])
        losses = part.column("loss").to_numpy()
        self._add_classes(part, losses)
        order = np.argsort(-losses, kind="stable")[: min(self.top_k, len(losses) - int(np.isnan(losses).sum()))]
        names = part.column(0).take(pa.array(order)).to_pylist()
        self.hardest += [
            (float(losses[row]), first + int(row), str(name)) for row, name in zip(order, names, strict=True)
        ]
        self.hardest = sorted(self.hardest, key=lambda hard: (-hard[0], hard[1]))[: self.top_k]

    def _add_classes(self, part: pa.Table, losses: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        targets = part.column("target")
        if not pa.types.is_integer(targets.type):
            return
        known = ~np.isnan(losses)
        if self.ignore_index is not None:
            known &= targets.to_numpy() != self.ignore_index
        labels, inverse = np.unique(targets.to_numpy()[known].astype(np.int64), return_inverse=True)
        counts, sums = np.bincount(inverse), np.bincount(inverse, losses[known])
        for label, count, loss in zip(labels.tolist(), counts.tolist(), sums.tolist(), strict=True):
            earlier = self.of_class.get(label, (0, 0.0))
            self.of_class[label] = (earlier[0] + count, earlier[1] + loss)

    def show(self, console: Console) -> None:
        """Print it."""
        loss = "none" if self.loss is None else f"{self.loss:.6f}"
        console.print(
            f"loss {loss} ({self.reduction}), {self.num_examples} examples, {self.num_ignored} ignored, "
            f"{self.num_excluded} excluded",
            highlight=False,
        )
        if self.of_class:
            console.print(self._class_table())
        if self.hardest:
            table = Table("rank", "example", "loss", title="Hardest examples")
            for rank, (value, _, name) in enumerate(self.hardest, start=1):
                table.add_row(str(rank), name, f"{value:.4f}")
            console.print(table)

    def _class_table(self) -> Table:
        table = Table("class", "examples", "mean loss", "share of the loss", title="Worst classes")
        worst = sorted(self.of_class.items(), key=lambda entry: (-entry[1][1], entry[0]))[:CLASSES_SHOWN]
        for label, (count, loss) in worst:
            share = loss / self.loss_sum if self.loss_sum else 0.0
            table.add_row(str(label), str(count), f"{loss / count:.4f}", f"{share:.1%}")
        return table
