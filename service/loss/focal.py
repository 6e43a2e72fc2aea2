"""`FocalLoss` and `focal_loss`: the loss for torch users, differentiable, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from service.loss.alpha import plain_alpha, with_weights
from service.loss.checks import check_sigmoid_inputs, check_softmax_inputs, check_values, is_soft, not_ignored
from service.loss.formula import focal_from_log_odds
from service.loss.kernels.choose import can_use_cpu_kernel, softmax_statistics
from service.loss.row_state import BAD_TARGET, IGNORED
from service.loss.sigmoid import Focus, sigmoid_focal
from service.loss.soft_labels import log_probabilities, smoothed_labels, soft_alpha_t, soft_focal, soft_labels
from service.loss.tracing import needs_gradient
from service.schema.config import LossConfig, Mode, Reduction
from service.schema.result import reduced


class FocalLoss(nn.Module):
    """Focal loss of Lin et al. 2017 (arXiv:1708.02002), equation 5: alpha_t (1 - p_t)^gamma (-log p_t).

    Args:
        alpha: Class weights: a number in [0, 1] for the positive class of two, 1 - alpha for the other; or one
            weight >= 0 per class as list, tuple, numpy array or tensor, e.g. `len(labels) / class_counts`; or None.
        gamma: Focusing parameter >= 0; 0 is the weighted cross-entropy.
        device: Device to compute on, e.g. `"cuda"`, `"cuda:1"` or `"cpu"`; inputs are moved to it.
        mode: `"softmax"` or `"sigmoid"` (independent labels; a list alpha then has one alpha in [0, 1] per label).
        reduction: `"mean"` over the examples that count, `"sum"`, `"weighted_mean"` (divides by the sum of alpha_t,
            as torch's cross-entropy does) or `"none"`.
        ignore_index: Target of examples that do not count, or None.
        positive_class: The class a single alpha belongs to; 0 reproduces few-shot-learning-nlp 1.0.4.
        label_smoothing: In [0, 1), softmax only.
        gamma_negative: Focusing parameter >= 0 of negative labels, None: gamma; sigmoid only, the asymmetric loss of
            Ridnik et al. 2021 (arXiv:2009.14119).
        clip: In [0, 1), subtracted from the probability of negative labels, which is at least 0; sigmoid only.

    Attributes:
        alpha: float64 buffer, or None: softmax (C,) weights, sigmoid (L,) or (1,) weights of the positives.
        gamma: float.
        device: str, follows `.to()`.

    Raises:
        ValueError: A parameter is out of its range, or torch finds no CUDA device.
    """

    alpha: Tensor | None
    _placement: Tensor

    def __init__(
        self,
        alpha: Any = None,
        gamma: float = 2,
        device: str | torch.device = "cuda",
        *,
        mode: Mode = "softmax",
        reduction: Reduction = "mean",
        ignore_index: int | None = -100,
        positive_class: int = 1,
        label_smoothing: float = 0.0,
        gamma_negative: float | None = None,
        clip: float = 0.0,
    ) -> None:
        config = LossConfig.parse(
            {
                "alpha": plain_alpha(alpha),
                "gamma": gamma,
                "mode": mode,
                "reduction": reduction,
                "ignore_index": ignore_index,
                "positive_class": positive_class,
                "label_smoothing": label_smoothing,
                "gamma_negative": gamma_negative,
                "clip": clip,
            }
        )
        super().__init__()
        self._set_up(config, device)

    @classmethod
    def from_config(cls, config: LossConfig, device: str | torch.device) -> FocalLoss:
        """The instance for a validated configuration."""
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        module._set_up(config, device)
        return module

    def _set_up(self, config: LossConfig, device: str | torch.device) -> None:
        try:
            kind = torch.device(device).type
        except (RuntimeError, TypeError) as err:
            raise ValueError(f"torch does not support the device {device!r}") from err
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"there is no device {str(device)!r}: torch finds no CUDA device; pass device='cpu'")
        self.config = config
        self.gamma = float(config.gamma)
        weights = None if config.weights is None else torch.tensor(config.weights, dtype=torch.float64, device=device)
        self.register_buffer("alpha", weights)
        # alpha may be None; this tensor follows `.to()`, so its device is the device of the module.
        self.register_buffer("_placement", torch.empty(0, device=device), persistent=False)

    @property
    def device(self) -> str:
        return str(self._placement.device)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The reduced focal loss.

        Args:
            inputs: Logits, floating. Softmax: (C,), (N, C) or (N, C, d1, ...). Sigmoid: any shape.
            targets: Softmax: class indices in [0, C) or `ignore_index`, integers, the shape of `inputs` without C; or
                soft labels, floats of the shape of `inputs` that are >= 0 and add up to 1 over the classes.
                Sigmoid: the shape of `inputs`, values in [0, 1] or `ignore_index`.

        Returns:
            A scalar, or for `"none"` the loss per target; float32, float64 for float64 inputs. The mean of no targets
            is 0, with a gradient of zeros. `"sum"` is the sum of `"none"`, over all labels of sigmoid inputs (N, L).
            The means are over examples, whose loss is the mean over their labels that are not ignored.

        Raises:
            ValueError: Shapes do not match, or a target is out of range.
            RuntimeError: A target is out of range, in a compiled module.
        """
        if not inputs.is_floating_point():
            raise ValueError(f"logits have a floating-point dtype, got {inputs.dtype}")
        device = self._placement.device
        inputs, targets = (value if value.is_meta else value.to(device) for value in (inputs, targets))
        if self.config.mode == "softmax":
            return self._softmax(inputs, targets)
        return self._sigmoid(inputs, targets)

    def _softmax(self, inputs: Tensor, targets: Tensor) -> Tensor:
        check_softmax_inputs(inputs, targets, self.config, self.alpha)
        logits = inputs.unsqueeze(0) if inputs.dim() == 1 else inputs
        if is_soft(inputs, targets):
            return self._soft(logits, targets.reshape(logits.shape), inputs.shape[:0] if inputs.dim() == 1 else None)
        classes = targets.reshape(logits.shape[:1] + logits.shape[2:])
        if not self.config.label_smoothing and can_use_cpu_kernel(logits):
            fused = self._fused(logits, classes, targets.shape)
            if fused is not None:
                return fused
        classes, num_classes = classes.long(), logits.shape[1]
        counted = not_ignored(classes, self.config.ignore_index)
        check_values(
            ~counted | ((classes >= 0) & (classes < num_classes)),
            classes,
            f"target {{}} is outside [0, {num_classes})",
        )
        valid_targets = classes.masked_fill(~counted, 0)
        logits = _without_ignored(logits, counted)
        if self.config.label_smoothing:
            share = smoothed_labels(logits, valid_targets, self.config.label_smoothing)
            loss = soft_focal(log_probabilities(logits), share, self.gamma, self.alpha)
        else:
            loss = focal_from_log_odds(softmax_statistics(logits, valid_targets).log_odds, self.gamma)
            if self.alpha is not None:
                loss = loss * self.alpha[valid_targets]
        alpha_t = torch.ones_like(loss) if self.alpha is None else self.alpha[valid_targets].to(loss)
        return self._reduce(loss, alpha_t, counted, inputs.dtype, targets.shape)

    def _soft(self, logits: Tensor, targets: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """`_softmax` for soft labels of the shape of the logits."""
        labels = soft_labels(targets, self.config.ignore_index)
        message = "soft labels are >= 0 and add up to 1, got the sum {}"
        check_values(~labels.counted | labels.valid, labels.total, message)
        classes = log_probabilities(_without_ignored(logits, labels.counted))
        loss = soft_focal(classes, labels.share, self.gamma, self.alpha)
        alpha_t = soft_alpha_t(labels.share, self.alpha)
        return self._reduce(loss, alpha_t, labels.counted, logits.dtype, loss.shape if shape is None else shape)

    def _fused(self, logits: Tensor, targets: Tensor, shape: tuple[int, ...]) -> Tensor | None:
        """`_softmax` by the fused CPU kernel; None if a target is out of range."""
        from service.loss.kernels import cpu as fused_cpu  # not installed without the `server` extra

        elements = logits.flatten(2) if logits.dim() > 3 else logits
        arguments = (elements, targets, self.gamma, self.alpha, self.config.ignore_index)
        result_dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if self.config.reduction == "none":
            scores = fused_cpu.score_rows(*arguments)
            if (scores.state == BAD_TARGET).any():
                return None
            # numpy: starting torch's threads would take longer than the operation.
            loss = np.where(scores.state == IGNORED, 0, scores.loss)
            return torch.from_numpy(loss).reshape(shape).to(result_dtype)
        sums = fused_cpu.sum_rows(*arguments)
        if sums.num_bad_targets:
            return None
        value = reduced(self.config.reduction, sums.loss, sums.alpha_t, sums.num_counted)
        return torch.tensor(value or 0.0, dtype=result_dtype)

    def _sigmoid(self, inputs: Tensor, targets: Tensor) -> Tensor:
        check_sigmoid_inputs(inputs, targets, self.config)
        counted = not_ignored(targets, self.config.ignore_index)
        filled_targets = targets.double().masked_fill(~counted, 0)
        is_label = (filled_targets >= 0) & (filled_targets <= 1)
        check_values(is_label, filled_targets, "sigmoid targets lie in [0, 1], got {}")
        logits = inputs.masked_fill(~counted, 0)
        loss, alpha_t = sigmoid_focal(logits, filled_targets, Focus.of(self.config), self.alpha)
        if self.config.reduction in ("none", "sum") or inputs.dim() <= 1:
            return self._reduce(loss, alpha_t, counted, inputs.dtype, targets.shape)
        labels = counted.flatten(1).sum(1)
        per_example = loss.masked_fill(~counted, 0).flatten(1).sum(1) / labels.clamp(min=1)
        alpha_of_example = alpha_t.masked_fill(~counted, 0).flatten(1).sum(1) / labels.clamp(min=1)
        return self._reduce(per_example, alpha_of_example, labels > 0, inputs.dtype, targets.shape[:1])

    def _reduce(
        self, loss: Tensor, alpha_t: Tensor, counted: Tensor, dtype: torch.dtype, shape: tuple[int, ...]
    ) -> Tensor:
        loss = torch.where(counted, loss, 0)
        match self.config.reduction:
            case "none":
                result = loss.reshape(shape)
            case "sum":
                result = loss.sum()
            case "mean":
                result = loss.sum() / counted.sum().clamp(min=1)
            case _:
                weight = torch.where(counted, alpha_t, 0).sum()
                result = loss.sum() / torch.where(weight > 0, weight, 1)
        return result.to(torch.float64 if dtype == torch.float64 else torch.float32)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.alpha
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before is not None and self.alpha is not None and self.alpha.dtype != before.dtype:
            # `model.bfloat16()` would round the weights.
            self.alpha = before.to(self.alpha.device)
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        if self.alpha is not None and not self.alpha.is_meta:
            self.config = with_weights(self.config, tuple(self.alpha.tolist()))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self.config, name)!r}" for name in type(self.config).model_fields)


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: Any = None,
    gamma: float = 2,
    mode: Mode = "softmax",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    positive_class: int = 1,
    label_smoothing: float = 0.0,
    gamma_negative: float | None = None,
    clip: float = 0.0,
) -> Tensor:
    """`FocalLoss` as a function, on the device of the logits; same arguments, shapes and errors."""
    module = FocalLoss(
        alpha,
        gamma,
        logits.device,
        mode=mode,
        reduction=reduction,
        ignore_index=ignore_index,
        positive_class=positive_class,
        label_smoothing=label_smoothing,
        gamma_negative=gamma_negative,
        clip=clip,
    )
    return module(logits, targets)  # type: ignore[no-any-return]


def _without_ignored(logits: Tensor, counted: Tensor) -> Tensor:
    """Replace the logits that do not count if a gradient is needed: multiplied by 0, a NaN in them would reach it."""
    return logits.masked_fill(~counted.unsqueeze(1), 0) if needs_gradient(logits) else logits
