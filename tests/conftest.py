"""What has to be set before any test module is imported."""

from __future__ import annotations

import os

import torch

# Without a GPU the kernels of `service.loss.kernels.cuda` run in Triton's interpreter, which Triton decides when it is
# imported, and more than one package may do that.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
