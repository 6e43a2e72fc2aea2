"""Words of label issues, of runs of tokens whose examples have the attribute `tokens`."""

from __future__ import annotations

import numpy as np
import orjson
import pyarrow as pa

from service.diagnostics.chunks import Booleans, Integers
from service.diagnostics.elements.class_issues import likely_classes
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.run_chunks import examples_of
from service.diagnostics.elements.tokens import CommonWords
from service.schema.replies.element_diagnostics import CommonWord

WORDS = "tokens"


class WordsOfIssues:
    """Counts the label issues of each word."""

    def __init__(self) -> None:
        self._counts = CommonWords()
        self.found = False
        """True if an example with label issues has words."""

    def add(self, rows: pa.RecordBatch, chunk: ElementChunk, marks: Booleans) -> None:
        """Count the marks of a chunk of tokens, (1, T) bool; `rows` have the columns `targets` and `attributes`.

        Examples without a list of as many words as tokens are left out.
        """
        examples = examples_of(rows)
        starts = np.searchsorted(examples, np.arange(len(rows) + 1))
        targets, likely = chunk.targets[marks], likely_classes(chunk, marks)
        places = np.flatnonzero(marks[0])
        for example, first, last in _groups(examples[places]):
            words = _words(rows["attributes"][example].as_py())
            if words is not None and len(words) == starts[example + 1] - starts[example]:
                self.found = True
                of_marks = [str(words[place]) for place in (places[first:last] - starts[example]).tolist()]
                self._counts.add(of_marks, targets[first:last], likely[first:last])

    def most_common(self, limit: int) -> list[CommonWord]:
        """The most frequent words, with their targets and most likely classes."""
        return [
            {"word": word, "target": target, "suggested": suggested, "count": count}
            for word, target, suggested, count in self._counts.most_common(limit)
        ]


def _groups(values: Integers) -> list[tuple[int, int, int]]:
    """Value, first place and end of each group of equal values, which are ascending."""
    different, first = np.unique(values, return_index=True)
    return list(zip(different.tolist(), first.tolist(), [*first.tolist()[1:], len(values)], strict=True))


def _words(attributes: str | None) -> list[object] | None:
    words = orjson.loads(attributes).get(WORDS) if attributes else None
    return words if isinstance(words, list) else None
