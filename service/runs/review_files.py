"""The reviews of a run. Each request adds a file of reviews; the files are merged like those of batches.

```text
<time>-<id>.json        a list of reviews; the times in the names only increase
level<n>-<digest>.json  {"replaces": [names of files], "lists": {"<time>-<id>": [reviews], ...}}
```
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, BinaryIO
from uuid import uuid4

import orjson
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from service.runs.damage import damage, named_damage
from service.runs.units import UnitKey
from service.schema.replies.reviews import Review
from service.storage.cache import BoundedCache
from service.storage.compaction import MergedFolder
from service.storage.files import Files

REVIEWS_CACHED = 100_000


class MergedReviews(TypedDict):
    """The content of a merged file."""

    replaces: list[str]
    lists: Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,20}-")], list[Review]], Field(min_length=1)]


FILE: TypeAdapter[list[Review] | MergedReviews] = TypeAdapter(list[Review] | MergedReviews)
# The current review of each example and unit.
Verdicts = Mapping[UnitKey, Review]


@dataclass(frozen=True)
class ReviewFile:
    """One file of reviews.

    Args:
        name: Name of the file.
        lists: The reviews of each request, by the name (without ending) of the file that the request wrote.
        replaces: Names of the files that were merged into this one.
    """

    name: str
    lists: dict[str, list[Review]]
    replaces: tuple[str, ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of reviews."""
        return sum(map(len, self.lists.values()))

    @cached_property
    def largest_label(self) -> int:
        """The largest label; -1 without one."""
        labels = (review["label"] for reviews in self.lists.values() for review in reviews)
        return max((label for label in labels if label is not None), default=-1)

    @cached_property
    def last(self) -> str:
        """Name of the latest list."""
        return max(self.lists)


@dataclass(frozen=True)
class ReviewHistory:
    """All reviews of a run at one moment; it is cached, so callers must not change it.

    Args:
        reviews: Reviews in the order of arrival.
    """

    reviews: list[Review]

    @cached_property
    def verdicts(self) -> Verdicts:
        """The last review of each example and unit, without those whose last review withdraws the verdict.

        Of the regions of a mask with the same number in several epochs it has the last one: see `verdicts_of`.
        """
        has_epochs = self._by_epoch.keys() - {None}
        return _current(self.reviews) if has_epochs else self.verdicts_of(0)

    def verdicts_of(self, epoch: int) -> Verdicts:
        """The current reviews of examples, and of units of an epoch.

        The regions of a mask follow from the predictions of an epoch: each epoch has its own.
        """
        regions, others = self._by_epoch.get(epoch), self._by_epoch[None]
        return others if regions is None else {**others, **regions}

    @cached_property
    def current(self) -> list[Review]:
        """The current reviews of examples and of the units of all epochs."""
        return [review for part in self._by_epoch.values() for review in part.values()]

    @cached_property
    def _by_epoch(self) -> dict[int | None, Verdicts]:
        """The current reviews of the regions of each epoch, and at None those of examples and of other units."""
        parts: defaultdict[int | None, list[Review]] = defaultdict(list, {None: []})
        for review in self.reviews:
            parts[review.get("epoch")].append(review)
        return {epoch: _current(reviews) for epoch, reviews in parts.items()}


def _current(reviews: Iterable[Review]) -> Verdicts:
    last = {UnitKey.of(review): review for review in reviews}
    withdrawn = [key for key, review in last.items() if review["verdict"] is None]
    for key in withdrawn:
        del last[key]
    return last


class ReviewCache:
    """Reviews in memory: at most `REVIEWS_CACHED` in parsed files, and as many in whole histories.

    Attributes:
        files: Parsed files, by path.
        histories: Whole histories, by folder and names of its files.
    """

    def __init__(self) -> None:
        self.files: BoundedCache[ReviewFile] = BoundedCache(REVIEWS_CACHED, lambda file: 1 + file.size)
        self.histories: BoundedCache[ReviewHistory] = BoundedCache(
            REVIEWS_CACHED, lambda history: 1 + len(history.reviews)
        )


class ReviewFolder(MergedFolder[ReviewFile]):
    """The reviews of a run.

    Args:
        files: Files of the data directory.
        root: Data folder of the run.
        cache: Cache of reviews.
    """

    suffix = ".json"
    large = 10_000

    def __init__(self, files: Files, root: str, cache: ReviewCache) -> None:
        super().__init__(files, f"{root}/reviews")
        self._cache = cache

    def add(self, reviews: Sequence[Review], *, within: str | None = None) -> None:
        """Store reviews durably.

        Args:
            reviews: The reviews of a request.
            within: A folder that must exist; see `Files.create`.
        """
        # Reviews are ordered by these times, so each must be later than the last one, even if the clock goes back.
        last = max((file.last for file in self.live()), default="0-")
        stamp = max(time.time_ns(), int(last.partition("-")[0]) + 1)
        content = orjson.dumps(reviews)
        path = f"{self.path}/{stamp:020d}-{uuid4().hex[:12]}{self.suffix}"
        self.files.create(path, lambda file: file.write(content), within=within)

    def history(self, num_classes: int | None = None) -> ReviewHistory:
        """All reviews.

        Args:
            num_classes: Number of classes of the run; None if it is not known yet.

        Raises:
            RunDamagedError: A file cannot be read, or has a label that is no class.
        """
        live = self.live()
        for file in live:
            if num_classes is not None and file.largest_label >= num_classes:
                msg = f"has label {file.largest_label}; the run has {num_classes} classes"
                raise damage(f"{self.path}/{file.name}", msg)

        def read() -> ReviewHistory:
            lists = _lists(live)
            return ReviewHistory([review for name in lists for review in lists[name]])

        return self._cache.histories.cached((self.path, *(file.name for file in live)), read)

    def read(self, name: str) -> ReviewFile:
        path = f"{self.path}/{name}"

        def read() -> ReviewFile:
            with named_damage(path), self.files.open(path) as file:
                content = FILE.validate_json(file.read())
            if isinstance(content, list):
                return ReviewFile(name, {name.removesuffix(self.suffix): content})
            return ReviewFile(name, content["lists"], tuple(content["replaces"]))

        return self._cache.files.cached(path, read)

    def write(self, file: BinaryIO, group: Sequence[ReviewFile], replaces: tuple[str, ...]) -> None:
        file.write(orjson.dumps({"replaces": replaces, "lists": _lists(group)}))


def _lists(files: Sequence[ReviewFile]) -> dict[str, list[Review]]:
    """The lists of several files, in the order of arrival."""
    lists = {name: reviews for file in files for name, reviews in file.lists.items()}
    return {name: lists[name] for name in sorted(lists)}
