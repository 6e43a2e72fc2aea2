"""`TrainerRunCallback`: each epoch of transformers' Trainer as an epoch of a run. Needs transformers and torch."""

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
from service.client.training import RecordingError, RunRecorder
from service.errors import ShapeError

if TYPE_CHECKING:
    TrainerCallback = object  # its types are not ours to check, and mypy shall not need it
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
    """Keeps the logits of each epoch of a Trainer in a run.

        callback = TrainerRunCallback(client.put_run("reviews"), dataset, ids="id", attributes=("text",))
        Trainer(model, args, train_dataset=dataset, callbacks=[callback]).train()

    A Trainer does not show its callbacks any logits, and those of the training steps are of another model each step,
    with dropout. So at the end of an epoch the model reads the data set once more, in evaluation mode and without
    gradients: that costs about a third of the epoch's time where the data set is the one it trains on, in proportion
    less for a smaller one (a held-out part, which is better evidence of wrong labels anyway) or with `every`. Sending
    costs no time of training: `RunRecorder` does it beside.

    Training goes on as if nothing had been: random states, the mode of each module and the data loader are left as
    they were. With several processes each reads its share of the rows; models that are sharded over processes (FSDP,
    ZeRO stage 3) are not supported. The run's epochs are those of the Trainer, from 0.

    Args:
        run: Where the epochs go.
        dataset: Rows by number, each a mapping that the Trainer's collator takes; what the model does not take is left
            out, as the Trainer does. With one label a row.
        ids: One for each row, or the name that they have in a row; None: the number of the row.
        attributes: Names of what else to keep of each row, e.g. its text.
        batch_size: Rows at once; None: the Trainer's for evaluation.
        every: Record one of so many epochs, the first one always.
        strict: Let training fail where rows could not be kept; otherwise that is logged, and told in `errors`.
        recorder: Further arguments of `RunRecorder`.
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
        **recorder: Any,
    ) -> None:
        if ids is not None and not isinstance(ids, str) and len(ids) != len(dataset):
            raise ShapeError(f"{len(ids)} ids for {len(dataset)} rows")
        self._run, self._dataset, self._ids, self._attributes = run, dataset, ids, tuple(attributes)
        self._batch_size, self._every, self._strict, self._options = batch_size, every, strict, recorder
        self._recorder: RunRecorder | None = None
        self.errors: list[Exception] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the thread that sends, once it is clear that model and data are of the kind that a run keeps.

        Raises:
            ShapeError: They are not.
            KeyError: A row has no such id or attribute.
        """
        if len(self._dataset):
            self._read(kwargs["model"], kwargs["train_dataloader"], args, [0])
        prefix = f"rank-{args.process_index}"
        self._recorder = RunRecorder(self._run, strict=self._strict, **{"prefix": prefix} | self._options)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the data set with the model as it is now."""
        epoch = max(0, math.ceil(state.epoch - 1e-6) - 1)
        if self._recorder is None or epoch % self._every:
            return
        model, loader = kwargs["model"], kwargs["train_dataloader"]
        for rows in self._row_numbers(args):
            self._recorder.add(epoch, *self._read(model, loader, args, rows))
        self._recorder.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait until all is sent."""
        if self._recorder is None:
            return
        try:
            self._recorder.close()
        except RecordingError as err:
            self.errors = list(err.errors)
            if self._strict:
                raise
            log.warning("%s", err)

    def _row_numbers(self, args: Any) -> Iterator[list[int]]:
        rows = range(args.process_index, len(self._dataset), args.world_size)
        size = self._batch_size or args.per_device_eval_batch_size
        for start in range(0, len(rows), size):
            yield list(rows[start : start + size])

    def _read(self, model: Any, loader: Any, args: Any, rows: Sequence[int]) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Ids, logits, labels and attributes of some rows."""
        with _left_as_it_was(model):
            examples = [self._dataset[row] for row in rows]
            logits, labels = _read(model, loader.collate_fn, examples, args.device)
        attributes = {name: [_plain(example[name]) for example in examples] for name in self._attributes}
        return self._ids_of(rows, examples), logits, labels, attributes

    def _ids_of(self, rows: Sequence[int], examples: Sequence[Mapping[str, Any]]) -> list[str | int]:
        if isinstance(self._ids, str):
            name = self._ids
            return [_plain(example[name]) for example in examples]
        return [row if self._ids is None else _plain(self._ids[row]) for row in rows]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _read(
    model: Any, collate: Callable[[list[dict[str, Any]]], Any], examples: Sequence[Mapping[str, Any]], device: Any
) -> tuple[Any, Any]:
    """Logits (N, C) and labels (N,) of some rows."""
    import torch

    known = inspect.signature(model.forward).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    rows = [
        {name: value for name, value in example.items() if name in known or name in LABELS or takes_all}
        for example in examples
    ]
    inputs = {name: value.to(device) if hasattr(value, "to") else value for name, value in collate(rows).items()}
    labels = next((inputs[name] for name in LABELS if name in inputs), None)
    with torch.no_grad():
        outputs = model(**inputs)
    logits = outputs["logits"] if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    if labels is None or not hasattr(logits, "dim") or logits.dim() > 2 or labels.dim() > 1:
        raise ShapeError(
            "a run keeps logits (N, C) and one label for each row; the model or the data has something else"
        )
    return logits, labels


@contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards the modes and random states of before."""
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
