"""`FocalLoss` in compiled, exported and vectorised programs, with fake and meta tensors, and without a server."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from service.loss.focal import FocalLoss

ROOT = Path(__file__).parent.parent.parent
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, -100, 1, 0])
LABELS = torch.randint(2, (6, 3), generator=torch.Generator().manual_seed(1)).float()
MODULES = {
    "mean": (FocalLoss([1, 2, 3], device="cpu"), CLASSES),
    "sum": (FocalLoss(device="cpu", reduction="sum"), CLASSES),
    "weighted mean": (FocalLoss([1, 2, 3], device="cpu", reduction="weighted_mean"), CLASSES),
    "none": (FocalLoss(device="cpu", reduction="none"), CLASSES),
    "smoothing": (FocalLoss(device="cpu", label_smoothing=0.1), CLASSES),
    "sigmoid": (FocalLoss(0.25, device="cpu", mode="sigmoid"), LABELS),
    "soft labels": (FocalLoss(device="cpu", mode="sigmoid"), LABELS * 0.8 + 0.1),
    "distributions": (FocalLoss([1, 2, 3], device="cpu"), LOGITS.softmax(1)),
    "asymmetric": (FocalLoss(0.25, 1, "cpu", mode="sigmoid", gamma_negative=4, clip=0.05), LABELS),
}
each_module = pytest.mark.parametrize(("module", "targets"), MODULES.values(), ids=MODULES.keys())
# The warnings of torch's compiler are not ours.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def compiled() -> Iterator[Callable[..., Any]]:
    """`torch.compile` of a whole function, without code generation."""
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


def gradient(function: Callable[[Tensor, Tensor], Tensor], targets: Tensor) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    function(logits, targets).sum().backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.slow
@each_module
def test_a_compiled_module_returns_the_same(module: FocalLoss, targets: Tensor, compiled: Callable[..., Any]) -> None:
    torch.testing.assert_close(compiled(module)(LOGITS, targets), module(LOGITS, targets))
    torch.testing.assert_close(gradient(compiled(module), targets), gradient(module, targets))


@pytest.mark.parametrize(("mode", "target"), [("softmax", 3), ("softmax", -1), ("sigmoid", 2)])
@pytest.mark.slow
def test_a_compiled_module_refuses_a_bad_target(mode: Any, target: int, compiled: Callable[..., Any]) -> None:
    function = compiled(FocalLoss(device="cpu", mode=mode))
    targets = torch.zeros((4,) if mode == "softmax" else (4, 3), dtype=torch.long)
    function(torch.zeros(4, 3), targets)
    targets.view(-1)[2] = target
    with pytest.raises(RuntimeError, match=r"target \? is outside|targets lie in \[0, 1\]"):
        function(torch.zeros(4, 3), targets)


@pytest.mark.slow
@each_module
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_module_returns_the_same(module: FocalLoss, targets: Tensor, strict: bool) -> None:
    program = torch.export.export(module, (LOGITS, targets), strict=strict)
    torch.testing.assert_close(program.module()(LOGITS, targets), module(LOGITS, targets))


@each_module
def test_vmap_computes_each_batch(module: FocalLoss, targets: Tensor) -> None:
    batches = torch.stack([LOGITS, LOGITS * 3])
    expected = [module(logits, targets) for logits in batches]
    torch.testing.assert_close(torch.vmap(module, in_dims=(0, None))(batches, targets), torch.stack(expected))
    torch.testing.assert_close(torch.vmap(module)(batches, torch.stack([targets] * 2)), torch.stack(expected))


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dense_logits(smoothing: float, compiled: Callable[..., Any]) -> None:
    module = FocalLoss([1, 2, 3], device="cpu", label_smoothing=smoothing)
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(40).reshape(2, 4, 5) % 3
    expected = module(logits, targets)
    torch.testing.assert_close(compiled(module)(logits, targets), expected)
    torch.testing.assert_close(torch.export.export(module, (logits, targets)).module()(logits, targets), expected)
    alone = torch.stack([module(logits[i : i + 1], targets[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(torch.vmap(module)(logits.unsqueeze(1), targets.unsqueeze(1)), alone)


@pytest.mark.slow
def test_vmap_of_a_gradient_is_the_gradient_of_each_row(compiled: Callable[..., Any]) -> None:
    module = FocalLoss([1, 2, 3], device="cpu")

    def loss_of_row(logits: Tensor, target: Tensor) -> Tensor:
        return module(logits.unsqueeze(0), target.unsqueeze(0))  # type: ignore[no-any-return]

    rows = torch.vmap(torch.func.grad(loss_of_row))
    expected = gradient(FocalLoss([1, 2, 3], device="cpu", reduction="sum"), CLASSES)
    torch.testing.assert_close(rows(LOGITS, CLASSES), expected)
    torch.testing.assert_close(compiled(rows)(LOGITS, CLASSES), expected)


def test_a_gradient_transform_refuses_a_bad_target() -> None:
    with pytest.raises(ValueError, match="row 1: target 5"):
        torch.func.grad(FocalLoss(device="cpu"))(torch.zeros(2, 3), torch.tensor([0, 5]))


@each_module
def test_fake_and_meta_tensors_have_the_shape_of_the_result(module: FocalLoss, targets: Tensor) -> None:
    shape = module(LOGITS, targets).shape
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert module(mode.from_tensor(LOGITS), mode.from_tensor(targets)).shape == shape
    on_meta = FocalLoss.from_config(module.config, "meta")(LOGITS.to("meta"), targets.to("meta"))
    assert (on_meta.is_meta, on_meta.shape) == (True, shape)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_computes_the_same(dynamo: bool, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    module, file = FocalLoss([1, 2, 3], device="cpu"), str(tmp_path / "loss.onnx")
    torch.onnx.export(module, (LOGITS, CLASSES), file, dynamo=dynamo, verbose=False)
    model = onnx.load(file)
    inputs = {part.name: value.numpy() for part, value in zip(model.graph.input, (LOGITS, CLASSES), strict=True)}
    (loss,) = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
    assert float(loss) == pytest.approx(module(LOGITS, CLASSES).item(), rel=1e-6)


REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Refuse())
import torch
from service.loss.focal import FocalLoss
print(round(FocalLoss([1, 2], device="cpu")(torch.zeros(3, 2), torch.tensor([0, 1, 1])).item(), 6))
"""


@pytest.mark.slow
def test_the_module_needs_torch_and_no_other_package_of_the_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    server = {Requirement(text).name.replace("-", "_") for text in project["optional-dependencies"]["server"]}
    refused = server - {"torch", "fsspec"} | {"simdjson", "llvmlite"}
    command = [sys.executable, "-c", REFUSE.replace("{refused}", repr(refused))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown == "0.288811\n"
