"""Words of label issues, of runs of tokens whose examples have the attribute `tokens`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Booleans, Integers
from service.diagnostics.elements.class_issues import likely_classes
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.run_chunks import examples_of
from service.diagnostics.elements.tokens import CommonWords
from service.queries.attributes import attributes_of
from service.queries.view import View
from service.schema.replies.element_diagnostics import CommonWord

WORDS = "tokens"


class WordsOfIssues:
    """Counts the label issues of each word.

    Args:
        view: The run.
    """

    columns = ("epoch", "id", "attributes")
    """Columns of stored rows that `add` needs, besides `targets`."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._has_attributes = bool(view.snapshot.with_rows(with_attributes=True))
        self._counts = CommonWords()
        self.found = False
        """True if an example with label issues has words."""

    def add(self, rows: pa.RecordBatch, chunk: ElementChunk, marks: Booleans) -> None:
        """Count the marks of a chunk of tokens, (1, T) bool; examples without as many words as tokens are left out."""
        if not self._has_attributes:
            return
        examples = examples_of(rows)
        starts = np.searchsorted(examples, np.arange(len(rows) + 1))
        places = np.flatnonzero(marks[0])
        marked, first = np.unique(examples[places], return_index=True)
        targets, likely = chunk.targets[marks], likely_classes(chunk, marks)
        attributes = attributes_of(self._view, rows.select(self.columns).take(pa.array(marked)).to_pylist())
        for example, part, of_example in zip(marked, _parts(first, len(places)), attributes, strict=True):
            words = of_example.get(WORDS)
            if isinstance(words, list) and len(words) == starts[example + 1] - starts[example]:
                self.found = True
                of_marks = [str(words[place]) for place in places[part] - starts[example]]
                self._counts.add(of_marks, targets[part], likely[part])

    def most_common(self, limit: int) -> list[CommonWord]:
        """The most frequent words, with their targets and most likely classes."""
        return [
            {"word": word, "target": target, "suggested": suggested, "count": count}
            for word, target, suggested, count in self._counts.most_common(limit)
        ]


def _parts(starts: Integers, end: int) -> list[slice]:
    return list(map(slice, starts, np.append(starts[1:], end)))
