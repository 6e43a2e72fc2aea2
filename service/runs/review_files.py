"""The reviews of a run. Each request adds a file of reviews; the files are merged like those of batches.

```text
<time>-<id>.json        a list of reviews; the times in the names only increase
level<n>-<digest>.json  {"replaces": [names of files], "lists": {"<time>-<id>": [reviews], ...}}
```
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Annotated, BinaryIO, cast
from uuid import uuid4

import orjson
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from service.runs.damage import damage, named_damage
from service.runs.review_history import MAX_REVIEWERS, ReviewHistory
from service.schema.replies.reviews import Review, StoredReview
from service.storage.cache import BoundedCache
from service.storage.compaction import MergedFolder
from service.storage.files import Files

# At about a kilobyte each.
REVIEWS_CACHED = 250_000


class MergedReviews(TypedDict):
    """The content of a merged file."""

    replaces: list[str]
    lists: Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,20}-")], list[StoredReview]], Field(min_length=1)]


FILE: TypeAdapter[list[StoredReview] | MergedReviews] = TypeAdapter(list[StoredReview] | MergedReviews)
# Makes the reviews of a list from those before it.
MakeReviews = Callable[[ReviewHistory], Sequence[StoredReview]]


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
    replaces: frozenset[str] = frozenset()

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


class ReviewCache:
    """Reviews in memory: at most `REVIEWS_CACHED` in parsed files, and as many in histories.

    Attributes:
        files: Parsed files, by path.
        histories: The last history of each run, by folder.
        lock: Held while a history is extended.
    """

    def __init__(self) -> None:
        self.files: BoundedCache[ReviewFile] = BoundedCache(REVIEWS_CACHED, lambda file: 1 + file.size)
        self.histories: BoundedCache[ReviewHistory] = BoundedCache(REVIEWS_CACHED, lambda history: 1 + history.size)
        self.lock = Lock()


class ReviewFolder(MergedFolder[ReviewFile]):
    """The reviews of a run.

    Args:
        files: Files of the data directory.
        root: Data folder of the run.
        cache: Cache of reviews.
        num_classes: Number of classes that labels of reviews may have; None if it is not known yet.
    """

    suffix = ".json"
    large = 10_000

    def __init__(self, files: Files, root: str, cache: ReviewCache, num_classes: int | None = None) -> None:
        super().__init__(files, f"{root}/reviews")
        self._cache = cache
        self._num_classes = num_classes

    def append(self, make: MakeReviews, *, within: str) -> ReviewHistory:
        """Store further reviews durably, in one file.

        Meanwhile no other thread or process of this machine appends reviews to the run; on an object store, no other
        thread of this process.

        Args:
            make: Makes the reviews; nothing is stored if it raises, or makes none.
            within: A folder that must exist; see `Files.create`.

        Returns:
            The history with the reviews.

        Raises:
            InvalidRequestError: An example would have more than `MAX_REVIEWERS` reviewers.
        """
        with self.files.appending(self.path, within=within):
            history = self.history()
            reviews = make(history)
            if not reviews:
                return history
            # Reviews are ordered by these times, so each must be later than the last one, even if the clock goes back.
            stamp = max(time.time_ns(), int(history.last.partition("-")[0] or 0) + 1)
            name = f"{stamp:020d}-{uuid4().hex[:12]}"
            with self._cache.lock:
                extended = history.extended([(name, _named(name, reviews))], max_reviewers=MAX_REVIEWERS)
            content = orjson.dumps(reviews)
            path = f"{self.path}/{name}{self.suffix}"
            self.files.create(path, lambda file: file.write(content), within=within)
            return self._cache.histories.put(self.path, extended)

    def history(self) -> ReviewHistory:
        """All reviews.

        Raises:
            RunDamagedError: A file cannot be read, or has a label that is no class.
        """
        live = self._checked()
        with self._cache.lock:
            known = self._cache.histories.get(self.path) or ReviewHistory([])
            new = {name: reviews for file in live if file.last > known.last for name, reviews in file.lists.items()}
            new = {name: reviews for name, reviews in new.items() if name > known.last}
            if known.num_lists + len(new) != sum(len(file.lists) for file in live):
                # Another thread has extended the history, or a list appeared before the last one: another machine may
                # have another time.
                live = self._checked()
                new = {name: reviews for file in live for name, reviews in file.lists.items()}
                known = ReviewHistory([]) if len(new) != known.num_lists else known
                new = {name: reviews for name, reviews in new.items() if name > known.last}
            if not new:
                return known
            return self._cache.histories.put(self.path, known.extended(sorted(new.items())))

    def _checked(self) -> list[ReviewFile]:
        """The files that count.

        Raises:
            RunDamagedError: A file cannot be read, or has a label that is no class.
        """
        live = self.live()
        for file in live:
            if self._num_classes is not None and file.largest_label >= self._num_classes:
                msg = f"has label {file.largest_label}; the run has {self._num_classes} classes"
                raise damage(f"{self.path}/{file.name}", msg)
        return live

    def read(self, name: str) -> ReviewFile:
        path = f"{self.path}/{name}"

        def read() -> ReviewFile:
            with named_damage(path), self.files.open(path) as file:
                content = FILE.validate_json(file.read())
            if isinstance(content, list):
                content = {"replaces": [], "lists": {name.removesuffix(self.suffix): content}}
            lists = {of: _named(of, reviews) for of, reviews in content["lists"].items()}
            return ReviewFile(name, lists, frozenset(content["replaces"]))

        return self._cache.files.cached(path, read)

    def write(self, file: BinaryIO, group: Sequence[ReviewFile], replaces: tuple[str, ...]) -> None:
        lists = {name: reviews for part in group for name, reviews in part.lists.items()}
        stored = {name: [_without_id(review) for review in lists[name]] for name in sorted(lists)}
        file.write(orjson.dumps({"replaces": replaces, "lists": stored}))


def _named(name: str, reviews: Sequence[StoredReview]) -> list[Review]:
    """The reviews of a list with their ids: the name of the list and the number of the review in it, in text order."""
    return [cast(Review, {**review, "review": f"{name}.{number:06}"}) for number, review in enumerate(reviews)]


def _without_id(review: Review) -> StoredReview:
    return cast(StoredReview, {name: value for name, value in review.items() if name != "review"})
