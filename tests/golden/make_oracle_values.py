"""Write oracle_values.json: focal losses and gradients from two published packages.

Neither package is a dependency of the tests. To write the file again, in a temporary environment:

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install torch==2.14.1 torchvision==0.29.1 numpy
    /tmp/oracle/bin/pip install --no-deps few-shot-learning-nlp==1.0.4
    /tmp/oracle/bin/python tests/golden/make_oracle_values.py > tests/golden/oracle_values.json

few-shot-learning-nlp is GPL-3.0: its values are recorded here, its text is not. Only its `loss.py` is loaded: importing
the whole package needs many more packages. All inputs are float64 and moderate, because both
packages form `1 - p_t` by subtraction.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torchvision.ops import sigmoid_focal_loss


def load_published_loss() -> ModuleType:
    package = importlib.util.find_spec("few_shot_learning_nlp")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "loss.py"
    spec = importlib.util.spec_from_file_location("published_loss", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchvision_cases(generator: torch.Generator) -> dict[str, Any]:
    logits = (torch.randn(4, 3, generator=generator, dtype=torch.float64) * 2).round(decimals=3)
    hard = torch.randint(0, 2, (4, 3), generator=generator).double()
    soft = torch.rand(4, 3, generator=generator, dtype=torch.float64).round(decimals=3)
    soft[0, 0], soft[1, 1] = 0, 1
    cases = []
    for kind, targets in (("hard", hard), ("soft", soft)):
        for alpha in (-1, 0.25):
            for gamma in (0, 0.5, 2):
                x = logits.clone().requires_grad_()
                losses = {
                    reduction: sigmoid_focal_loss(x, targets, alpha=alpha, gamma=gamma, reduction=reduction)
                    for reduction in ("none", "mean", "sum")
                }
                losses["mean"].backward()
                values = {reduction: loss.tolist() for reduction, loss in losses.items()}
                cases.append(
                    {"targets": kind, "alpha": alpha, "gamma": gamma, **values, "gradient_of_mean": x.grad.tolist()}
                )
    return {"logits": logits.tolist(), "targets": {"hard": hard.tolist(), "soft": soft.tolist()}, "cases": cases}


def published_cases(generator: torch.Generator) -> dict[str, Any]:
    loss_class = load_published_loss().FocalLoss
    inputs = {
        "two classes": ((6, 2), (6,)),
        "three classes": ((6, 3), (6,)),
        "three classes, two positions": ((3, 3, 2), (3, 2)),
    }
    alphas: dict[str, list[Any]] = {
        "two classes": [0.25, 0.5, 0.9, [1.25, 5.0]],
        "three classes": [[1.5, 2.0, 6.0], [1.0, 1.0, 1.0]],
        "three classes, two positions": [[1.5, 2.0, 6.0]],
    }
    batches, cases = {}, []
    for name, (shape, target_shape) in inputs.items():
        logits = (torch.randn(shape, generator=generator, dtype=torch.float64) * 2).round(decimals=3)
        targets = torch.randint(0, shape[1], target_shape, generator=generator)
        batches[name] = {"logits": logits.tolist(), "targets": targets.tolist()}
        for alpha in alphas[name]:
            for gamma in (0, 0.5, 2, 5):
                x = logits.clone().requires_grad_()
                loss = loss_class(alpha, gamma=gamma, device="cpu")(x, targets)
                loss.backward()
                cases.append(
                    {
                        "batch": name,
                        "alpha": alpha,
                        "gamma": gamma,
                        "loss": loss.item(),
                        "gradient": x.grad.tolist(),
                    }
                )
    return {"batches": batches, "cases": cases}


def main() -> None:
    generator = torch.Generator().manual_seed(20170807)
    values = {
        "versions": {name: version(name) for name in ("torch", "torchvision", "few-shot-learning-nlp")},
        "torchvision": torchvision_cases(generator),
        "few_shot_learning_nlp": published_cases(generator),
    }
    # One case per line.
    text = json.dumps(values)
    sys.stdout.write(text.replace('{"targets": "', '\n{"targets": "').replace('{"batch": "', '\n{"batch": "') + "\n")


if __name__ == "__main__":
    main()
