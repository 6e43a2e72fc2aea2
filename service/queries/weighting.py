"""Class weights and focusing parameter of the losses of a query."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import InvalidConfigError
from service.queries.sql import literal
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.structure import Task

WEIGHTS_IN_SQL = 100


@dataclass(frozen=True)
class Weighting:
    """Class weights and focusing parameter of the focal loss in a query.

    Args:
        alpha: One weight per class; of the task `multi_label` one weight of the positive labels, or one for each label.
            None for weights of 1.
        gamma: Focusing parameter >= 0.
    """

    alpha: tuple[float, ...] | None
    gamma: float

    @classmethod
    def of(cls, config: LossConfig, task: Task = "classification") -> Weighting:
        """The weighting of a configuration; a sigmoid alpha is the weight of class 1 of two."""
        weights = config.weights
        if config.mode == "sigmoid" and weights is not None and task != "multi_label":
            weights = (1 - weights[0], weights[0])
        return cls(weights, config.gamma)

    def override(
        self,
        alpha: tuple[float, ...] | None,
        gamma: float | None,
        num_classes: int | None,
        task: Task = "classification",
    ) -> Weighting:
        """The weighting with another alpha, another gamma, or both.

        Args:
            alpha: One weight per class; for two classes also the weight of class 1 alone; `()` for weights of 1; None
                for no change. Of the task `multi_label` one weight in [0, 1] of the positive labels, or one for each.
            gamma: None for no change.
            num_classes: Number of classes of the run; of the task `multi_label`, of labels.
            task: Task of the run.

        Raises:
            InvalidConfigError: A value is out of range, or the number of weights is not the number of classes.
        """
        weights = self.alpha
        if alpha is not None:
            mode, names = ("sigmoid", "labels") if task == "multi_label" else ("softmax", "classes")
            value = alpha[0] if len(alpha) == 1 else list(alpha) or None
            weights = LossConfig.parse({"mode": mode, "alpha": value}).weights
            is_one = task == "multi_label" and len(alpha) == 1
            if weights is not None and num_classes is not None and len(weights) != num_classes and not is_one:
                msg = f"alpha has {len(weights)} weights, the run has {num_classes} {names}"
                raise fault(InvalidConfigError, msg, "query", "alpha")
        return Weighting(weights, self.gamma if gamma is None else LossConfig.parse({"gamma": gamma}).gamma)

    @property
    def has_many_classes(self) -> bool:
        """True if the weights have to be in a table: the time to plan a query grows with the weights in its text."""
        return self.alpha is not None and len(self.alpha) > WEIGHTS_IN_SQL

    @property
    def sql(self) -> str:
        """Column expressions of the losses; they use the columns of `service.queries.sql.ROWS`.

        The weight of many classes is in a further column, `class_weight`.
        """
        if self.alpha is None:
            alpha = "1::DOUBLE"
        elif self.has_many_classes:
            alpha = "class_weight"
        else:
            alpha = f"(CAST([{', '.join(map(literal, self.alpha))}] AS DOUBLE[]))[target + 1]"
        gamma = literal(self.gamma)
        return f"""
            {alpha} AS alpha_t,
            alpha_t * exp(-{gamma} * softplus_z) * cross_entropy AS loss,
            CASE WHEN alpha_t = 0 THEN '-infinity'::DOUBLE
                 ELSE ln(alpha_t) - {gamma} * softplus_z + CASE WHEN z > 30 THEN -z ELSE ln(cross_entropy) END
            END AS log_loss"""
