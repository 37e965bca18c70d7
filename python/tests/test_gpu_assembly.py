# SPDX-License-Identifier: Apache-2.0
"""Every kernel of a layer of each kind, forward and backward, assembled for a GPU that need not be
there: ptxas finds no spill, no local memory and no serialized wgmma."""

import warnings

import layer_list
import moe_mlir
import pytest
import test_gpu_parts
import torch
from moe_mlir import _native, layers
from moe_mlir.layers._activations import ACTIVATIONS
from oracle import Slots, make_ids

needs_ptxas = pytest.mark.skipif(
    not any(place.is_file() for place in _native.ptxas_places()), reason="no ptxas: pip install nvidia-cuda-nvcc"
)


@needs_ptxas
@pytest.mark.parametrize(
    "dtype, name",
    [("f32", name) for name in ("interleaved", "routed", "attention")]
    + [("bf16", name) for name in sorted(layer_list.make_layers("bf16"))]
    + [("f16", name) for name in ("gated", "in_out", "adapter", "gate_on_input")],
)
def test_kernels_have_no_defect(name, dtype):
    layer = layer_list.make_layers(dtype)[name]
    module = moe_mlir.compile(layer.text, target="sm_90a", grad="all", check=True)
    assert module.manifest["target"] == "sm_90a"
    for entry in layer.entries:
        assert any(other == "backward" or other.endswith("_backward") for other in module.entries), entry


@needs_ptxas
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", ["mlp", "gated", "adapter", "gate_on_input"])
def test_wider_kernels_have_no_defect(name, dtype):
    """Contractions of several steps: ptxas may serialize a product only in a loop."""
    moe_mlir.compile(layer_list.make_layers(dtype, 264, 200)[name].text, target="sm_90a", grad="all", check=True)


@needs_ptxas
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_short_contractions_have_no_defect(dtype):
    """Two products of four steps each: unrolled, the warp that loads for them would spill."""
    layer = layer_list.make_layers(dtype, 768, 256)["separate"]
    moe_mlir.compile(layer.text, target="sm_90a", grad="all", check=True)


@needs_ptxas
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [200, 256])
def test_resident_weights_have_no_defect(width, bias):
    """Down's weights stay in shared memory; with them, what is chosen for other products over as few columns."""
    layer = layers.GatedMLP(d_model=776, d_expert=width, experts=4, top_k=2, bias=bias, dtype="bf16", gate_dtype="bf16")
    with warnings.catch_warnings():
        warnings.simplefilter("error", moe_mlir.errors.PerformanceWarning)
        moe_mlir.compile(layer.text, target="sm_90a", grad="all", check=True)


@needs_ptxas
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_in_a_product(activation):
    """Regions on the matrix unit, forward and backward, have no library of functions to call."""
    layer = layers.GatedMLP(d_model=64, d_expert=72, experts=4, top_k=2, activation=activation, dtype="bf16",
                            gate_dtype="bf16")
    with warnings.catch_warnings():
        warnings.simplefilter("error", moe_mlir.errors.PerformanceWarning)
        moe_mlir.compile(layer.text, target="sm_90a", grad="all")


@needs_ptxas
@pytest.mark.parametrize("parts", ["", " parts 1"])
@pytest.mark.parametrize(
    "experts, wide, high, layout, rows, result",
    [
        # A shared expert's: one tile, and four.
        (1, 64, 72, "out_in", "grouped, grouped", "bf16"),
        (1, 64, 72, "in_out", "token, grouped", "bf16"),
        (1, 64, 72, "out_in", "token, slot", "bf16 accumulate"),
        (1, 64, 72, "out_in", "token, grouped", "f32"),
        (1, 8, 8, "out_in", "grouped, grouped", "f32 accumulate"),
        (1, 264, 136, "out_in", "grouped, grouped", "bf16"),
        (1, 264, 136, "in_out", "token, grouped", "bf16 accumulate"),
        (1, 264, 136, "out_in", "token, grouped", "f32"),
        (2, 64, 72, "out_in", "token, grouped", "bf16"),
        (8, 264, 136, "in_out", "slot, grouped", "f32 accumulate"),
    ],
)
def test_weight_gradients_have_no_defect(experts, wide, high, layout, rows, result, parts):
    dtype, *accumulate = result.split()
    result = {"bf16": torch.bfloat16, "f32": torch.float32}[dtype]
    slots = Slots(make_ids("random", 1, min(2, experts), experts), experts)
    text = test_gpu_parts.text_of(slots, wide, high, layout, *rows.split(", "), torch.bfloat16, result, bool(accumulate), parts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", moe_mlir.errors.PerformanceWarning)
        moe_mlir.compile(text, target="sm_90a", check=True)


@needs_ptxas
@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("name", ["interleaved", "routed", "attention", "adapter"])
def test_simt_kernels_have_no_defect(name, dtype):
    """On the oldest target every product is a SIMT kernel; the others take the same text."""
    moe_mlir.compile(layer_list.make_layers(dtype)[name].text, target="sm_80", grad="all", check=True)


@needs_ptxas
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_function_of_floats_assembles(dtype):
    """What the CPU has libm for."""
    unary = ("acos acosh asin asinh atan atanh cbrt cos cosh erf erfc exp exp2 expm1 log log10 log1p log2 round rsqrt sin "
             "sinh tan tanh").split()
    sum_of = [f"%a{i} = math.{op} %v : {dtype}" for i, op in enumerate(unary)]
    sum_of += [f"%a{len(unary)} = math.atan2 %v, %v : {dtype}", f"%a{len(unary) + 1} = math.powf %v, %v : {dtype}",
               f"%two = arith.constant 2 : i32\n%a{len(unary) + 2} = math.fpowi %v, %two : {dtype}, i32"]
    sum_of += ["%s0 = arith.addf %a0, %v : " + dtype]
    sum_of += [f"%s{i} = arith.addf %s{i - 1}, %a{i} : {dtype}" for i in range(1, len(unary) + 3)]
    body = "\n".join(sum_of)
    moe_mlir.compile(f"""
        func.func @f(%x: tensor<?x4x{dtype}> {{moe.dims = ["T", 4]}}) -> tensor<?x4x{dtype}> {{
          %y = moe.rowwise token ins(%x : tensor<?x4x{dtype}> rows) outs(tensor<?x4x{dtype}> rows) {{
          ^bb0(%v: {dtype}):
            {body}
            moe.yield %s{len(unary) + 2} : {dtype}
          }}
          return %y : tensor<?x4x{dtype}>
        }}""", target="sm_80")


@needs_ptxas
@pytest.mark.parametrize("target", ["sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_each_target_assembles(target):
    module = moe_mlir.compile(layer_list.make_layers("bf16")["routed"].text, target=target, grad="all", check=True)
    assert module.manifest["target"] == target
