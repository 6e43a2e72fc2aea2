"""`TrainerRunCallback`: records each epoch of a transformers Trainer in a run. Needs transformers and torch."""

from __future__ import annotations

import inspect
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from service.client._sync.runs import RunClient
from service.client.arrays import as_plain
from service.client.errors import ClientError
from service.client.model_outputs import batch_of_outputs
from service.client.retry import NO_RETRIES
from service.client.run_calls import get_run_call
from service.client.training import RecordingError, RunRecorder
from service.errors import LossServiceError, ShapeError
from service.schema.structure import Task

if TYPE_CHECKING:
    TrainerCallback = object  # so that mypy does not need transformers
else:
    try:
        from transformers import TrainerCallback
    except ModuleNotFoundError as err:
        raise ModuleNotFoundError(
            f"{err.name} is not installed: pip install transformers", name=err.name, path=err.path
        ) from err

LABELS = ("labels", "label", "label_ids")

log = logging.getLogger(__name__)


class TrainerRunCallback(TrainerCallback):
    """Records the logits of each epoch of a Trainer in a run.

        callback = TrainerRunCallback(client.put_run("reviews"), dataset, ids="id", attributes=("text",))
        Trainer(model, args, train_dataset=dataset, callbacks=[callback]).train()

    A Trainer passes no logits to its callbacks, and those of the training steps come from a model that changes with
    each step, with dropout. Therefore the model evaluates the data set at the end of each epoch, without gradients.
    This adds about a third of the epoch's time for the training set, and less for a smaller data set or with `every`.
    Losses of held-out rows are also better evidence of wrong labels. `RunRecorder` sends the logits in the background.

    Random states, the mode of each module and the data loader are restored, so that training continues as without the
    callback. If several processes train, each evaluates its share of the rows. Models that are sharded over processes
    (FSDP, ZeRO stage 3) are not supported. Epochs are numbered as in the Trainer, from 0.

    Args:
        run: Run that stores the epochs.
        dataset: Rows by number, with `__len__` and `__getitem__`. Each is a mapping that the Trainer's collator takes,
            with its label or labels. Columns that the model does not take are left out, as by the Trainer.
        ids: One id per row, or the name of the column that contains them. Default: the number of the row.
        attributes: Names of columns to store with each row, e.g. its text.
        batch_size: Rows per evaluation step. Default: the Trainer's `per_device_eval_batch_size`.
        every: Record only every n-th epoch, beginning with the first.
        strict: Raise an error if rows could not be stored. By default such errors are logged and added to `errors`.
        task: Task of the run. `multi_label`, `tokens` and `masks` are the outputs of models for several labels, token
            classification and semantic segmentation. Tokens whose label is -100 do not count, and padding is left out;
            pixels do not count whose label is the `ignore_index` of the run's configuration. Masks are interpolated to
            the size of their labels.
        recorder: Further arguments of `RunRecorder`, such as `reduce=True` to send statistics in place of the logits.

    Raises:
        TypeError: The data set has no length or no rows by number, e.g. an IterableDataset.
        ShapeError: The number of ids is not that of the rows.
    """

    def __init__(
        self,
        run: RunClient,
        dataset: Any,
        *,
        ids: Sequence[str | int] | str | None = None,
        attributes: Sequence[str] = (),
        batch_size: int | None = None,
        every: int = 1,
        strict: bool = False,
        task: Task = "classification",
        **recorder: Any,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"{type(dataset).__name__} has no length or no rows by number: pass a list of its rows")
        if ids is not None and not isinstance(ids, str) and len(ids) != len(dataset):
            raise ShapeError(f"{len(ids)} ids for {len(dataset)} rows")
        self._run, self._dataset, self._ids, self._attributes = run, dataset, ids, tuple(attributes)
        self._batch_size, self._every, self._strict = batch_size, every, strict
        self._task, self._options = task, recorder
        self._recorder: RunRecorder | None = None
        self.errors: list[Exception] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check model and data with one row, and report epochs that the run has already.

        Raises:
            ShapeError: The model's logits or the labels do not have the shape that a run stores.
            KeyError: A row has no column for the id or an attribute.
            LossServiceError: With `strict` or `reduce`, the service does not have this run.
            ClientError: With `strict` or `reduce`, the service cannot be reached.
        """
        if len(self._dataset):
            self._evaluate_rows(kwargs["model"], kwargs["train_dataloader"], args, [0])
        prefix = f"rank-{args.process_index}"
        self._recorder = RunRecorder(
            self._run, strict=self._strict, task=self._task, **{"prefix": prefix} | self._options
        )
        self._report_stored_epochs(math.floor(state.epoch or 0))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the data set and record the logits."""
        epoch = max(0, math.ceil(state.epoch - 1e-6) - 1)
        if self._recorder is None or epoch % self._every:
            return
        model, loader = kwargs["model"], kwargs["train_dataloader"]
        for rows in self._row_numbers(args):
            self._recorder.add(epoch, *self._evaluate_rows(model, loader, args, rows))
        self._recorder.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait until all rows are sent."""
        if self._recorder is None:
            return
        try:
            self._recorder.close()
        except RecordingError as err:
            self.errors = list(err.errors)
            if self._strict:
                raise
            log.warning("%s", err)

    def _report_stored_epochs(self, first: int) -> None:
        """Log a warning if the run has epochs that training begins with again, or cannot be read."""
        try:
            # Without retries, which could delay training by a minute.
            description = self._run._client.send(get_run_call(self._run.name), NO_RETRIES)
        except (LossServiceError, ClientError) as err:
            if self._strict:
                raise
            log.warning("the epochs may not be stored: %s", err)
            return
        stored = [epoch["epoch"] for epoch in description["epochs"] if epoch["epoch"] >= first]
        if stored and not self._options.get("replace"):
            epochs = ", ".join(map(str, stored))
            log.warning("run %s already has epochs %s, and rejects other logits for them", self._run.name, epochs)

    def _row_numbers(self, args: Any) -> Iterator[list[int]]:
        rows = range(args.process_index, len(self._dataset), args.world_size)
        size = self._batch_size or args.per_device_eval_batch_size
        for start in range(0, len(rows), size):
            yield list(rows[start : start + size])

    def _evaluate_rows(
        self, model: Any, loader: Any, args: Any, rows: Sequence[int]
    ) -> tuple[Any, Any, Any, dict[str, Any], Any]:
        """Evaluate some rows. Returns the arguments of `RunRecorder.add` after the epoch."""
        with _evaluation_mode(model):
            examples = [self._dataset[row] for row in rows]
            outputs = _evaluate(model, loader.collate_fn, examples, args.device)
        logits, targets, offsets = batch_of_outputs(self._task, *outputs)
        attributes = {name: [as_plain(example[name]) for example in examples] for name in self._attributes}
        return self._ids_of(rows, examples), logits, targets, attributes, offsets

    def _ids_of(self, rows: Sequence[int], examples: Sequence[Mapping[str, Any]]) -> list[str | int]:
        if isinstance(self._ids, str):
            name = self._ids
            return [as_plain(example[name]) for example in examples]
        return [row if self._ids is None else as_plain(self._ids[row]) for row in rows]


def _evaluate(
    model: Any, collate: Callable[[list[dict[str, Any]]], Any], examples: Sequence[Mapping[str, Any]], device: Any
) -> tuple[Any, Any, Any]:
    """Return the logits and the labels of some rows, and their attention mask, as far as they have them."""
    import torch

    parameters = inspect.signature(model.forward).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    rows = [
        {name: value for name, value in example.items() if name in parameters or name in LABELS or takes_all}
        for example in examples
    ]
    inputs = {name: value.to(device) if hasattr(value, "to") else value for name, value in collate(rows).items()}
    labels = next((inputs[name] for name in LABELS if name in inputs), None)
    with torch.no_grad():
        outputs = model(**inputs)
    logits = outputs["logits"] if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    return logits, labels, inputs.get("attention_mask")


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Switch the model to evaluation mode, and restore the modes and random states afterwards."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            model.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, training in modes:
            module.training = training
