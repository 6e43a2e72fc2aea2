"""Compile the kernels of `service.loss.kernels.cuda` without a GPU, and print their loads as JSON.

`test_cuda.py` runs it in another process, as Triton has no compiler in a process that uses its interpreter.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from service.loss.kernels import cuda as fused_cuda
from service.loss.kernels.cuda_dense import reduce_dense
from service.loss.kernels.cuda_rows import reduce_narrow, reduce_wide

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}


def compile_kernel(kind: str, dtype: str, capability: int) -> Any:
    """Compile a kernel with every output, for logits that are aligned to 16 bytes."""
    computed = "fp64" if dtype == "fp64" else "fp32"
    align = fused_cuda.VECTOR_BYTES // BYTES[dtype]
    constants: dict[str, Any] = {"ALIGN": align, "PREDICTION": True, "MOMENTS": True, "FAST": computed == "fp32"}
    numbers = ["num_rows", "row_units", "class_units"]
    warps = 1
    if kind == "narrow":
        kernel = reduce_narrow
        constants |= {"BLOCK": fused_cuda.TILE_BYTES_PER_WARP // BYTES[computed], "ROWS": 1}
    elif kind == "wide":
        kernel, warps = reduce_wide, fused_cuda.WIDE_WARPS
        constants |= {"BLOCK": fused_cuda.WIDE_TILE_BYTES // BYTES[computed], "STAGES": fused_cuda.STAGES}
    else:
        kernel = reduce_dense
        constants |= {"ELEMENTS": fused_cuda.WARP_THREADS * align, "CLASSES": fused_cuda.DENSE_CLASSES}
        constants["CROSSING"] = kind == "crossing"
        numbers = ["num_examples", "element_units", "class_units", "example_units", "num_classes"]
    signature = {"logits": f"*{dtype}", "targets": "*i64", "sums": f"*{computed}", "positions": "*i32"}
    signature |= dict.fromkeys(numbers, "i32")
    signature |= dict.fromkeys(constants, "constexpr")
    places = {name: (kernel.arg_names.index(name),) for name in signature}
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={places[name]: value for name, value in constants.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name in ("logits", "targets", "sums", "positions")},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


def describe(kernel: Any) -> dict[str, Any]:
    """Bytes of each load of a thread, bytes of its stack (spilled registers), and number of 64-bit products."""
    ptx = kernel.asm["ptx"]
    loads = re.findall(r"ld\.global[\w.]*?(?:\.v(\d))?\.b(\d+)", ptx)
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global \[[^]]*\], \[[^]]*\], 0x([0-9a-f]+)", ptx)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    stack = re.search(r"STACK:(\d+)", usage.stdout + usage.stderr)
    return {
        "loads": [int(count or 1) * int(bits) // 8 for count, bits in loads] + [int(size, 16) for size in copies],
        "stack": int(stack[1]) if stack else None,
        # 64-bit products: row number by stride and by alignment; number of rows by the number of a sum.
        "wide_products": len(re.findall(r"arith\.muli .* : i64", kernel.asm["ttir"])),
    }


if __name__ == "__main__":
    kernels = product(("narrow", "wide", "dense", "crossing"), BYTES, (80, 90))
    print(json.dumps({" ".join(map(str, kernel)): describe(compile_kernel(*kernel)) for kernel in kernels}))
