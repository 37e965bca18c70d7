# SPDX-License-Identifier: Apache-2.0
"""Runs functions of MLIR text on the GPU, for tests: everything that a call writes is NaN before."""

import math
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


GUARD, MARK = 1024, 0xA5


def guarded(size, alignment=1024):
    """`size` bytes of 0xff, which is NaN in every floating-point type, between two guards."""
    whole = torch.full((size + 2 * GUARD + alignment,), MARK, dtype=torch.uint8, device=DEVICE)
    first = GUARD + (-(whole.data_ptr() + GUARD)) % alignment
    inside = whole[first : first + size]
    return inside.fill_(0xFF), (whole[:first], whole[first + size :])


def new_outputs(entry, arguments):
    """Results and workspace for a call, filled with NaN, and the guards around them."""
    outs, guards = [], []
    for dtype, shape in entry.results(*arguments):
        dtype = getattr(torch, dtype)
        # An empty tensor has no bytes to put between guards.
        inside, around = guarded(dtype.itemsize * math.prod(shape))
        outs.append(fill(inside.view(dtype).view(shape)) if inside.numel() else torch.empty(shape, dtype=dtype, device=DEVICE))
        guards += around
    workspace, around = guarded(entry.workspace_size(**entry._symbols(arguments)))
    return outs, workspace, [*guards, *around]


def check_guards(guards):
    """Nothing was written beside what a call writes."""
    marks = torch.cat(guards)
    assert bool((marks == MARK).all()), f"{int((marks != MARK).sum())} bytes written outside of results and workspace"


def call(entry, *arguments):
    """Results on the device; arguments may be anywhere."""
    arguments = [a.detach().to(DEVICE).contiguous() for a in arguments]
    outs, workspace, guards = new_outputs(entry, arguments)
    entry(*arguments, out=outs, workspace=workspace)
    check_guards(guards)
    return outs


def run_gpu(text, *arguments, entry="f", round=True):
    """As oracle.interpret, on the GPU; always rounded."""
    module = moe_mlir.compile(text, target=TARGET)
    return [o.cpu() for o in call(module[entry], *arguments)]
