# SPDX-License-Identifier: Apache-2.0
"""Targets by name, as devices, and those that are not there."""

import copy
import os
import subprocess
import sys
import warnings

import gpu
import moe_mlir
import moe_mlir.torch
import pytest
import torch
from layer_list import arguments_of, make_layers

LAYER = make_layers("f32")["gated"]
on_device = pytest.mark.skipif(gpu.DRY, reason="the CPU is no CUDA device")


def test_an_unknown_target_lists_the_known():
    known = "cpu, sm_80, sm_86, sm_89, sm_90, sm_90a, sm_100, sm_120, and cuda for this machine's GPU"
    for target in ("sm_75", "sm_80a", "cuda:", "cuda:x", "mps"):
        with pytest.raises(moe_mlir.errors.UnsupportedError, match=f"target '{target}' is not built; the targets are {known}"):
            LAYER.compile(target)


def test_a_device_is_a_target():
    assert LAYER.compile(torch.device("cpu")).manifest["target"] == "cpu"


def test_cuda_without_a_driver():
    """In a process of its own: the driver is opened once."""
    done = subprocess.run([sys.executable, "-c", f"import moe_mlir; moe_mlir.compile({LAYER.text!r}, target='cuda')"],
                          env={**os.environ, "MOE_LIBCUDA": "/no/such/libcuda.so"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "LoadError: no NVIDIA driver here (/no/such/libcuda.so" in done.stderr


def test_a_module_for_a_gpu_says_so_on_the_cpu():
    """Compiled on a machine without a GPU, for any; a copy is for the same."""
    module = copy.copy(LAYER.compile("sm_80", ptxas="none"))
    assert module.manifest["target"] == "sm_80"
    with pytest.raises(moe_mlir.errors.ArgumentError, match="runs on a GPU: copy it to one"):
        module(*arguments_of(LAYER, "forward", 3))


def test_operators_are_compiled_for_where_their_tensors_are():
    operator = moe_mlir.torch.Operator(LAYER)
    operator(*arguments_of(LAYER, "forward", 3))
    assert list(operator._programs) == [("cpu", ())]
    with pytest.raises(moe_mlir.errors.UnsupportedError, match="target 'meta' is not built"):
        operator(*(a.to("meta") for a in arguments_of(LAYER, "forward", 3)))


def warnings_of(layer, target, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        moe_mlir.compile(layer, target, **options)
    return found


def test_simt_products_of_16_bits_warn_once(monkeypatch):
    monkeypatch.setattr("moe_mlir.module._warned", set())
    odd = moe_mlir.layers.MLP(d_model=12, d_expert=16, experts=4, top_k=2, dtype="bf16")
    (found,) = warnings_of(odd, "sm_90a")
    assert found.category is moe_mlir.errors.PerformanceWarning and found.filename == __file__
    said = str(found.message)
    assert said.startswith("matrix products run without tensor cores on sm_90a, as SIMT kernels:\n  forward: moe.grouped_matmul: ")
    assert "the 12 columns of its left rows are no multiple of 8" in said
    assert not warnings_of(odd, "sm_90a")
    assert not warnings_of(odd, "cpu")
    (found,) = warnings_of(odd, "sm_80")
    assert "sm_80 has no kernels for it yet, sm_90a has" in str(found.message)
    # The same kernel in another layer, for the same reason; then a reason of its own.
    assert not warnings_of(make_layers("f16")["mlp"], "sm_80")
    (found,) = warnings_of(odd, "sm_90a", grad="all")
    assert "moe.grouped_outer: " in str(found.message) and "the 12 columns of its left" not in str(found.message)


def test_other_products_warn_of_nothing(monkeypatch):
    monkeypatch.setattr("moe_mlir.module._warned", set())
    assert not warnings_of(make_layers("f32")["gated"], "sm_80")
    assert not warnings_of(make_layers("f32")["gated"], "sm_90a")
    assert not warnings_of(make_layers("bf16")["gated"], "sm_90a")


@pytest.mark.gpu
@on_device
def test_this_machines_gpu():
    major, minor = torch.cuda.get_device_capability()
    arguments = [a.cuda() for a in arguments_of(LAYER, "forward", 5)]
    for target in ("cuda", "cuda:0", torch.device("cuda:0")):
        module = LAYER.compile(target)
        assert module.manifest["target"].startswith(f"sm_{major}")
        torch.testing.assert_close(module(*arguments).cpu(), LAYER.compile()(*(a.cpu() for a in arguments)))


@pytest.mark.gpu
@on_device
def test_modules_follow_their_device():
    arguments = [a for a in arguments_of(LAYER, "forward", 5) if a.dim() < 3]
    on_gpu = moe_mlir.torch.MoE(LAYER, device="cuda")
    moved = moe_mlir.torch.MoE(LAYER)
    moved.load_state_dict(on_gpu.state_dict())
    wanted = moved(*arguments)
    moved.cuda()
    for module in (on_gpu, moved):
        out = module(*(a.cuda() for a in arguments))
        torch.testing.assert_close(out.cpu(), wanted)
        out.sum().backward()
        assert module.w1.grad.isfinite().all()
