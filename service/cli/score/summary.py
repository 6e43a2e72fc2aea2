"""Summary of a scoring run: the loss, the classes with the largest loss, the hardest examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from service.cli.console import add_row, percent, table
from service.schema.request import Column
from service.schema.result import BatchResult, HardExample, Totals

CLASSES_SHOWN = 10


@dataclass
class Summary(Totals):
    """Totals of all parts, and sums per class.

    Args:
        of_class: Number of examples and sum of losses, by class.
    """

    of_class: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add_part(self, part: pa.Table) -> None:
        """Add a part, which is the result of one batch: its metadata has the sums, its columns the losses."""
        numbers = {name.decode(): float(value) for name, value in part.schema.metadata.items()}
        counted = part.column("num_valid").to_numpy() > 0
        losses = np.where(counted, part.column("loss").to_numpy(), np.nan)
        self._add_classes(part, losses)
        order = np.argsort(-losses, kind="stable")[: min(self.top_k, int(np.count_nonzero(counted)))]
        ids = part.column(0).take(pa.array(order)).to_pylist()
        batch = BatchResult(
            loss=None,
            loss_sum=numbers["loss_sum"],
            alpha_sum=numbers["alpha_sum"],
            num_examples=int(numbers["num_examples"]),
            num_ignored=int(numbers["num_ignored"]),
            num_excluded=int(numbers["num_excluded"]),
            num_elements=int(numbers["num_elements"]),
            per_example={},
        )
        contributions = part.column("contribution").to_numpy() / numbers["divisor"]
        hardest = [
            HardExample(self.num_batches, int(row), identity, float(losses[row]), float(contributions[row]))
            for row, identity in zip(order, ids, strict=True)
        ]
        self.add(batch, hardest)

    def _add_classes(self, part: pa.Table, losses: Column) -> None:
        """Add the losses, NaN in rows that do not count, to the sums of their classes."""
        # Rows of many elements have a list of targets, or none in the output.
        if "target" not in part.column_names or not pa.types.is_integer(part.schema.field("target").type):
            return
        targets = part.column("target")
        known = ~np.isnan(losses)
        labels, inverse = np.unique(targets.to_numpy()[known].astype(np.int64), return_inverse=True)
        counts, sums = np.bincount(inverse), np.bincount(inverse, losses[known])
        for label, count, loss in zip(labels.tolist(), counts.tolist(), sums.tolist(), strict=True):
            earlier = self.of_class.get(label, (0, 0.0))
            self.of_class[label] = (earlier[0] + count, earlier[1] + loss)

    def show(self, console: Console) -> None:
        """Print the summary."""
        loss = "none" if self.loss is None else f"{self.loss:.6f}"
        by = "" if self.reduction != "mean" or self.divisor == "examples" else f" by {self.divisor}"
        console.print(
            f"loss {loss} ({self.reduction}{by}), {self.num_examples} examples, {self.num_ignored} ignored, "
            f"{self.num_excluded} excluded",
            highlight=False,
        )
        if self.of_class:
            console.print(self._class_table())
        if self.hardest:
            shown = table(">rank", "example", ">loss", title="Hardest examples")
            for rank, hard in enumerate(self.hardest, start=1):
                add_row(shown, rank, hard.id, f"{hard.loss:.4f}")
            console.print(shown)

    def _class_table(self) -> Table:
        shown = table("class", ">examples", ">mean loss", ">share of the loss", title="Worst classes")
        worst = sorted(self.of_class.items(), key=lambda entry: (-entry[1][1], entry[0]))[:CLASSES_SHOWN]
        for label, (count, loss) in worst:
            share = loss / self.loss_sum if self.loss_sum else 0.0
            add_row(shown, label, count, f"{loss / count:.4f}", percent(share))
        return shown
