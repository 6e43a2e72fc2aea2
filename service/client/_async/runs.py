"""`AsyncRunClient`: the requests about one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from service.client import run_calls, tool_calls
from service.client._async.run_quality import AsyncRunQuality
from service.client._async.run_queues import AsyncRunQueues
from service.client.run_calls import QueryValue
from service.schema.replies.comparison import Comparison
from service.schema.replies.corrected import CorrectedPolicy
from service.schema.replies.diagnostics import Diagnostics
from service.schema.replies.dynamics import Dynamics
from service.schema.replies.examples import ExampleDetail, ExampleRow, ExamplesPage
from service.schema.replies.exports import AnnotationsReply
from service.schema.replies.reviews import AddedReviews, Reviews


class AsyncRunClient(AsyncRunQuality, AsyncRunQueues):
    """A run of the service, addressed by its name. `LossClient.run` and `LossClient.put_run` return it.

    The arguments `alpha` and `gamma` recompute the losses of the stored rows under another loss ("what if"), without
    sending the logits again. `alpha` is one number, a number for each class, or `()` for no weights; None, the default,
    means that of the run. Replies that are JSON are returned as dicts; their types are in `service.schema.replies`.

    Args:
        client: Client of the service.
        name: Name of the run.

    Every method raises UnknownRunError if the service has no run of this name, and the errors of `LossClient`.
    """

    async def examples(
        self,
        *,
        sort: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **filters: QueryValue,
    ) -> ExamplesPage:
        """Return one page of the examples of an epoch, by default of the last one.

        Args:
            sort: Names of scores, separated by commas, with a minus for descending order. Default: `-loss`.
            limit: Maximum number of rows, in [1, 100 000].
            cursor: `next_cursor` of the previous page. It is None on the last page.
            attributes: Text that each of these attributes must have.
            filters: `epoch`, `target`, `prediction`, `correct`; `min_` and `max_` with the name of a score, e.g.
                `min_loss`, `max_p_t`; `alpha` and `gamma`.
        """
        call = run_calls.examples_call(self.name, attributes, sort=sort, limit=limit, cursor=cursor, **filters)
        return await self._client.send(call)

    async def all_examples(
        self,
        *,
        sort: str | None = None,
        limit: int = run_calls.PAGE_ROWS,
        attributes: Mapping[str, str] | None = None,
        **filters: QueryValue,
    ) -> AsyncIterator[ExampleRow]:
        """Iterate over all examples of an epoch, one request per page.

        Args:
            sort: As for `examples`.
            limit: Rows per page, in [1, 100 000].
            attributes: As for `examples`.
            filters: As for `examples`.
        """
        cursor = None
        while True:
            page = await self.examples(sort=sort, limit=limit, cursor=cursor, attributes=attributes, **filters)
            for row in page["rows"]:
                yield row
            cursor = page["next_cursor"]
            if cursor is None:
                return
            # By the next request the run may have a newer last epoch.
            filters["epoch"] = page["epoch"]

    async def example(
        self,
        example_id: str | int,
        *,
        epoch: int | None = None,
        alpha: QueryValue = None,
        gamma: float | None = None,
        elements: bool | None = None,
    ) -> ExampleDetail:
        """Return one example: scores with percentiles, probabilities, course over the epochs, and reviews.

        In a run of labels, tokens or masks it has `elements`, flat, and `units`: its wrong labels, spans or regions.

        Args:
            example_id: Id of the example.
            epoch: Epoch of the scores. Default: the last one.
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.
            elements: False to leave out the elements.

        Raises:
            UnknownExampleError: The epoch has no example with this id.
        """
        return await self._client.send(
            run_calls.example_call(self.name, example_id, epoch=epoch, alpha=alpha, gamma=gamma, elements=elements)
        )

    async def diagnostics(
        self,
        *,
        fields: Iterable[str] | None = None,
        epoch: int | None = None,
        alpha: QueryValue = None,
        gamma: float | None = None,
    ) -> Diagnostics:
        """Return the diagnostics of the data set in one epoch.

        Args:
            fields: Members to compute, of `num_duplicates`, `loss`, `classes`, `confusion`, `class_pairs`, `histogram`,
                `concentration`, `concentration_at_gamma_0`, `calibration`, `label_errors`, `suggested_alpha` and
                `warnings`. Default: all.
            epoch: Number of the epoch. Default: the last one.
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.
        """
        members = None if fields is None else list(fields)
        return await self._client.send(
            run_calls.diagnostics_call(self.name, fields=members, epoch=epoch, alpha=alpha, gamma=gamma)
        )

    async def dynamics(
        self,
        *,
        first: int | None = None,
        sort: str | None = None,
        region: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        bins: int | None = None,
        alpha: QueryValue = None,
        gamma: float | None = None,
    ) -> Dynamics:
        """Return the training dynamics: a `summary` of all examples over the epochs, and `rows` of some.

        Args:
            first: Use only this number of epochs, from the first one.
            sort: Name of a column, with a minus for descending order. Default: `area_under_margin`.
            region: `easy`, `ambiguous`, `hard_to_learn` or `between`.
            limit: Maximum number of rows. Default: 100.
            offset: Number of rows to skip.
            bins: Add `map`, the data map as a grid of `bins` by `bins` cells.
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.
        """
        page = {"first": first, "sort": sort, "region": region, "limit": limit, "offset": offset, "bins": bins}
        return await self._client.send(run_calls.dynamics_call(self.name, **page, alpha=alpha, gamma=gamma))

    async def review(
        self,
        reviews: Iterable[Mapping[str, object]] | str | Path,
        *,
        reviewer: str | None = None,
        queue: str | None = None,
        adjudicate: bool | None = None,
    ) -> AddedReviews:
        """Add reviews. The service stores all of them or none.

        Args:
            reviews: Mappings with `id` and `verdict` (`ok`, `wrong`, `unsure`, `exclude`, or None to withdraw the
                previous one), optionally `unit`, `label` (class index or name), `reviewer`, `queue`, `comment`. At most
                10 000. Or the path of an exported file with verdicts filled in: CSV, TSV, JSONL, JSON, Parquet or
                Arrow, also compressed (`.gz`, `.zst`), with at most 30 000 changed ones.
            reviewer: Name of the reviewer of those that have none.
            queue: Queue of those that have none; a row of a file that it does not have is an error.
            adjudicate: True to settle what reviewers disagree about.

        Returns:
            The number of reviews that were `added`, of rows of a file that were `unchanged` or `left_out`, and the
            precision of each strategy so far.

        Raises:
            UnknownExampleError: The run has no example with one of the ids.
        """
        call = run_calls.add_reviews_call(self.name, reviews, reviewer=reviewer, queue=queue, adjudicate=adjudicate)
        return await self._client.send(call)

    async def reviews(self, *, history: bool = False) -> Reviews:
        """Return the reviews that count in order of arrival, and the precision of each strategy so far.

        Args:
            history: True for all reviews, also those that a later one of the same reviewer replaces or withdraws.
        """
        return await self._client.send(run_calls.reviews_call(self.name, history=history))

    async def send_label_studio_event(self, event: Mapping[str, object]) -> AnnotationsReply:
        """Store the annotations of an event of Label Studio as reviews, as its webhook does.

        Args:
            event: The event: `action`, `annotation`, `task`, and for deletions `annotations` and `project`.

        Returns:
            The number of reviews that were `added`, and the annotations that were `refused`.

        Raises:
            InvalidRequestError, UnknownExampleError: All annotations are refused, for this reason.
        """
        return await self._client.send(tool_calls.label_studio_event_call(self.name, event))

    async def export(
        self, path: str | Path | None = None, *, format: str = "jsonl", queue: str | None = None, **options: QueryValue
    ) -> bytes:
        """Export a queue, or all examples of an epoch by descending loss, as a file for a tool.

        Args:
            path: File to write to, in pieces. Default: return the bytes.
            format: `label-studio`, `argilla`, `fiftyone`, `csv`, `jsonl` or `parquet`.
            queue: Name of a queue. Default: all examples.
            options: `epoch`, `alpha`, `gamma`, and options of the tools: `from_name`, `to_name`, `data_key`,
                `object_tag`, `image_key`, `image_root`.

        Returns:
            The bytes of the file, or `b""` if they were written to `path`.

        Raises:
            UnknownQueueError: The run has no queue of this name.
        """
        call = run_calls.export_call(self.name, format, queue=queue, **options)
        if path is None:
            return await self._client.send(call)
        await self._client.save(call, Path(path))
        return b""

    async def corrected(
        self,
        path: str | Path | None = None,
        *,
        format: str = "jsonl",
        policy: CorrectedPolicy = "reviewed",
        **options: QueryValue,
    ) -> bytes:
        """Return the data set with the labels that its reviews settle: every example with the label to use.

        Args:
            path: File to write to, in pieces. Default: return the bytes.
            format: `csv`, `jsonl`, `parquet`, `arrow` or `label-studio`.
            policy: Source of the labels to use: `reviewed`; where no review settles them also the `consensus` of
                annotators, or suggestions that reviews prove to be precise (`auto`).
            options: `attributes` (False to leave them out), and for Label Studio `from_name`, `to_name`, `data_key`.

        Returns:
            The bytes of the file, or `b""` if they were written to `path`.
        """
        call = run_calls.corrected_call(self.name, format, policy=policy, **options)
        if path is None:
            return await self._client.send(call)
        await self._client.save(call, Path(path))
        return b""

    async def compare(
        self,
        other: str | AsyncRunClient,
        *,
        top: int | None = None,
        epoch: int | None = None,
        other_epoch: int | None = None,
        alpha: QueryValue = None,
        gamma: float | None = None,
    ) -> Comparison:
        """Compare this run with a later one, example by example, both under the loss of this run.

        Args:
            other: The later run, or its name.
            top: Number of examples that count as the hardest of a run. Default: 1 % of them, at least 10.
            epoch: Epoch of this run. Default: the last one.
            other_epoch: Epoch of the other run. Default: the last one.
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.
        """
        name = other.name if isinstance(other, AsyncRunClient) else other
        query = {"top": top, "epoch": epoch, "other_epoch": other_epoch}
        return await self._client.send(run_calls.compare_call(self.name, name, **query, alpha=alpha, gamma=gamma))
