"""Tensors without values: a program that is compiled, exported or vectorised has none that a check could read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def needs_gradient(tensor: Tensor) -> bool:
    """True if autograd records operations on the tensor."""
    return tensor.requires_grad and torch.is_grad_enabled()


def has_values(tensor: Tensor) -> bool:
    """True if Python code can depend on the values: no compilation, no export, no vmap, no fake or meta tensor."""
    return not (torch.compiler.is_compiling() or tensor.is_meta or isinstance(tensor, FakeTensor) or _is_in_vmap())


def is_in_transform() -> bool:
    """True in a transform of torch.func. Compilers call this while they trace."""
    return torch._C._functorch.peek_interpreter_stack() is not None


# `torch.compiler.assume_constant_result` sets this too, but imports all of torch.compile for it: 140 MB and a second.
is_in_transform._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _is_in_vmap() -> bool:
    return any(
        transform.key() == torch._C._functorch.TransformType.Vmap
        for transform in torch._C._functorch.get_interpreter_stack() or ()
    )
