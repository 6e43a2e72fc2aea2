"""`RunClient`: one run of a service as a Python object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.client import run_calls
from service.client.calls import one_batch
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult

if TYPE_CHECKING:
    from service.client.sync_client import LossClient

JSON = dict[str, Any]


class RunClient:
    """A run, by its name; made by `LossClient.run` and `LossClient.put_run`.

    `alpha` and `gamma` ask what if: the same rows under another loss, without sending them again. `alpha` is one
    number, one for each class, or `()` for none; None leaves it as the run has it. What is JSON on the wire comes back
    as it stands there: the README and `/docs` name the members.

    Args:
        client: Of the service.
        name: Of the run.

    Every method raises UnknownRunError where the service has no run of this name, and what `LossClient` says.
    """

    def __init__(self, client: LossClient, name: str) -> None:
        self._client = client
        self.name = name

    def describe(self) -> JSON:
        """Configuration, class names, epochs with their counts, and what the reviews say so far."""
        return self._client.send(run_calls.get_run_call(self.name))

    def delete(self) -> None:
        """Delete the run with all that belongs to it; it cannot be brought back."""
        self._client.send(run_calls.delete_run_call(self.name))

    def push(
        self,
        epoch: int,
        batch: str,
        logits: Any,
        targets: Any = None,
        ids: Any = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
    ) -> LossResult:
        """Keep a batch of an epoch; returns once it is on the service's disk. The same again changes nothing.

        Args:
            epoch: 0 or more.
            batch: Its name, unique within the epoch.
            logits: As for `LossClient.loss`.
            targets: As for `LossClient.loss`.
            ids: One string or integer per example; an example has the same one in every epoch and run.
            attributes: One value per example under each name, e.g. `{"text": [...], "annotator": [...]}`: strings,
                numbers, booleans or None; dates and the like become text. Shown, filtered by, and exported as the
                task's data.
            outputs: What comes back of each example.
            top_k: How many of the hardest examples to name.
            on_invalid: `error`, or `exclude` to leave rows with a bad logit or target out.

        Raises:
            BatchConflictError: The epoch has a batch of this name with other content.
        """
        sent = one_batch(logits, targets, ids)
        options = attributes, outputs, top_k, on_invalid
        return self._client.send(run_calls.put_batch_call(self.name, epoch, batch, sent, *options))

    def examples(
        self,
        *,
        sort: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **filters: Any,
    ) -> JSON:
        """One page of the examples of an epoch: `rows`, `num_matching` and `next_cursor`, None on the last page.

        Args:
            sort: Scores with commas, a minus for descending; default `-loss`.
            limit: Rows at most, up to 100 000.
            cursor: `next_cursor` of the page before.
            attributes: The text that each of these attributes must have.
            filters: `epoch`, `target`, `prediction`, `correct`, `min_loss`, `max_p_t` and so on for every score, and
                `alpha`, `gamma`.
        """
        call = run_calls.examples_call(self.name, attributes, sort=sort, limit=limit, cursor=cursor, **filters)
        return self._client.send(call)

    def all_examples(self, *, limit: int = run_calls.PAGE_ROWS, **query: Any) -> Iterator[JSON]:
        """Each example of an epoch, page after page; arguments as for `examples`, `limit` is the rows of one page."""
        cursor = None
        while True:
            page = self.examples(limit=limit, cursor=cursor, **query)
            yield from page["rows"]
            cursor = page["next_cursor"]
            if cursor is None:
                return
            # Another epoch may have come meanwhile.
            query["epoch"] = page["epoch"]

    def example(self, example_id: str | int, *, epoch: int | None = None, alpha: Any = None, gamma: Any = None) -> JSON:
        """Every score of an example with its percentile, its probabilities, its course over the epochs, its reviews."""
        query = {"epoch": epoch, "alpha": alpha, "gamma": gamma}
        return self._client.send(run_calls.example_call(self.name, example_id, **query))

    def diagnostics(
        self,
        *,
        fields: Iterable[str] | None = None,
        epoch: int | None = None,
        alpha: Any = None,
        gamma: float | None = None,
    ) -> JSON:
        """What an epoch, by default the last one, says of the data set: counts, loss, classes, confusions, histogram,
        concentration, calibration, label errors, suggested alpha, and warnings in plain words; or only some fields."""
        query = {"fields": None if fields is None else list(fields), "epoch": epoch, "alpha": alpha, "gamma": gamma}
        return self._client.send(run_calls.asked_of_run(self.name, "diagnostics", **query))

    def dynamics(
        self,
        *,
        first: int | None = None,
        sort: str | None = None,
        region: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        bins: int | None = None,
        alpha: Any = None,
        gamma: float | None = None,
    ) -> JSON:
        """How the examples were learned over the epochs: `summary` of all, and `rows` of some.

        Args:
            first: Only that many of the first epochs.
            sort: A column, with a minus for descending; default `area_under_margin`.
            region: `easy`, `ambiguous`, `hard_to_learn` or `between`.
            limit: Rows at most, default 100.
            offset: After how many rows.
            bins: `map`, the data map as a grid of so many by so many cells.
            alpha: What if.
            gamma: What if.
        """
        query: JSON = {"first": first, "sort": sort, "region": region, "limit": limit, "offset": offset}
        query |= {"bins": bins, "alpha": alpha, "gamma": gamma}
        return self._client.send(run_calls.asked_of_run(self.name, "dynamics", **query))

    def create_queue(
        self, strategy: str, budget: int = 50, *, alpha: Any = None, gamma: float | None = None, **members: Any
    ) -> JSON:
        """Choose the rows to look at next and keep them as a queue; all its rows come back.

        Args:
            strategy: `top_loss`, `logit_margin`, `area_under_margin`, `suspected_errors`, `random`, `mix`, ...
            budget: Rows at most.
            alpha: What if.
            gamma: What if.
            members: `name` (the same request again then gives the same queue), `mix`, `per_class`, `min_per_class`,
                `at_most`, `only`, `exclude_reviewed`, `seed`, `epoch`, `first`, `margin`, `share`.

        Raises:
            QueueConflictError: There is a queue of this name, made from another request.
        """
        call = run_calls.create_queue_call(self.name, strategy, budget, alpha, gamma, members)
        return self._completed(self._client.send(call))

    def queues(self) -> list[JSON]:
        """All queues by name, without their rows."""
        return self._client.send(run_calls.queues_call(self.name))

    def queue(
        self,
        name: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        attributes: Mapping[str, str] | None = None,
        **query: Any,
    ) -> JSON:
        """The rows of a queue by rank, each with scores, `reason`, attributes and verdict; `num_matching` counts them.

        Args:
            name: Of the queue.
            limit: Rows at most; None: all, asked for page after page.
            offset: After how many rows.
            attributes: The text that each of these attributes must have.
            query: `sort` (rank, id, target, prediction, suggested, verdict, and scores, with commas, a minus for
                descending), `target`, `prediction`, `suggested`, `verdict` (`open`, `reviewed`, `ok`, `wrong`,
                `unsure`), `text`, `ranks`, `around`, `fields`, `facets`.
        """
        options = {"attributes": attributes, **query}
        page = self._client.send(run_calls.queue_call(self.name, name, offset, limit, **options))
        return page if limit is not None else self._completed(page, offset, **options)

    def _completed(self, queue: JSON, offset: int = 0, **query: Any) -> JSON:
        while offset + len(queue["rows"]) < queue["num_matching"]:
            after = offset + len(queue["rows"])
            rest = self._client.send(run_calls.queue_call(self.name, queue["name"], after, **query))
            if not rest["rows"]:
                break
            queue["rows"] += rest["rows"]
        return queue

    def review(self, reviews: Iterable[Mapping[str, Any]]) -> JSON:
        """Say what people found; all are kept or none.

        Args:
            reviews: Each with `id`, `verdict` (`ok`, `wrong`, `unsure`, None to take it back), and perhaps `label`
                (index or class name), `reviewer`, `queue`, `comment`; at most 10 000.

        Returns:
            How many were `added`, and the precision so far of each strategy.
        """
        return self._client.send(run_calls.add_reviews_call(self.name, reviews))

    def reviews(self) -> JSON:
        """Every review in the order it came, and the precision so far."""
        return self._client.send(run_calls.asked_of_run(self.name, "reviews"))

    def export(
        self, path: str | Path | None = None, *, format: str = "jsonl", queue: str | None = None, **options: Any
    ) -> bytes:
        """A queue, or a whole epoch with the largest loss first, as a file for a tool.

        Args:
            path: Where to write it, piece by piece; None: the bytes come back.
            format: `label-studio`, `argilla`, `fiftyone`, `csv`, `jsonl` or `parquet`.
            queue: Its name; None: all examples.
            options: `epoch`, `alpha`, `gamma`, and of the tools: `from_name`, `to_name`, `data_key`, `object_tag`,
                `image_key`, `image_root`.

        Returns:
            The file; nothing where it went to `path`.
        """
        call = run_calls.export_call(self.name, format, queue=queue, **options)
        if path is None:
            return self._client.send(call)
        self._client.save(call, Path(path))
        return b""

    def compare(
        self,
        other: str | RunClient,
        *,
        top: int | None = None,
        epoch: int | None = None,
        other_epoch: int | None = None,
        alpha: Any = None,
        gamma: float | None = None,
    ) -> JSON:
        """What changed from this run to another, example by example, both under the loss of this one.

        Args:
            other: The run after.
            top: How many examples are the hardest; default one in a hundred, at least 10.
            epoch: Of this run; default the last.
            other_epoch: Of the other run; default the last.
            alpha: What if.
            gamma: What if.
        """
        after = other.name if isinstance(other, RunClient) else other
        query = {"top": top, "epoch": epoch, "other_epoch": other_epoch, "alpha": alpha, "gamma": gamma}
        return self._client.send(run_calls.asked_of_run(self.name, "compare", after, **query))
