# SPDX-License-Identifier: Apache-2.0
"""Runs functions of MLIR text on the GPU, for tests: everything that a call writes is NaN before."""

import os

import moe_mlir
import torch

# MOE_GPU_TESTS=dry-run runs the same tests on the CPU target: a test of the tests, where there is no
# GPU.
DRY = os.environ.get("MOE_GPU_TESTS") == "dry-run"
# MOE_GPU_TARGET=sm_80 with MOE_PTXAS=none runs the SIMT kernels of every target on whatever GPU is
# there: as PTX, which its driver assembles.
TARGET, DEVICE = ("cpu", "cpu") if DRY else (os.environ.get("MOE_GPU_TARGET", "sm_90a"), "cuda")


def fill(tensor):
    """NaN, or for integers a number that no table holds."""
    if tensor.numel():
        if tensor.dtype.is_floating_point:
            tensor.fill_(float("nan"))
        else:
            tensor.view(torch.uint8).fill_(0x7E)
    return tensor


def new_outputs(entry, arguments):
    """NaN-filled results and workspace for a call."""
    outs = [
        fill(torch.empty(shape, dtype=getattr(torch, dtype), device=DEVICE))
        for dtype, shape in entry.results(*arguments)
    ]
    size = entry.workspace_size(**entry._symbols(arguments))
    # 0xff bytes are NaN in every floating-point type.
    return outs, torch.full((size,), 0xFF, dtype=torch.uint8, device=DEVICE)


def call(entry, *arguments):
    """Results on the device; arguments may be anywhere."""
    arguments = [a.detach().to(DEVICE).contiguous() for a in arguments]
    outs, workspace = new_outputs(entry, arguments)
    entry(*arguments, out=outs, workspace=workspace)
    return outs


def run_gpu(text, *arguments, entry="f", round=True):
    """As oracle.interpret, on the GPU; always rounded."""
    module = moe_mlir.compile(text, target=TARGET)
    return [o.cpu() for o in call(module[entry], *arguments)]
