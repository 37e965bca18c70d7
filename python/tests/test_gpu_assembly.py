# SPDX-License-Identifier: Apache-2.0
"""Every kernel of a layer of each kind, forward and backward, assembled for a GPU that need not be
there: ptxas finds no spill, no local memory and no serialized wgmma."""

import layer_list
import moe_mlir
import pytest
from moe_mlir import _native

needs_ptxas = pytest.mark.skipif(
    not any(place.is_file() for place in _native.ptxas_places()), reason="no ptxas: pip install nvidia-cuda-nvcc"
)


# The epilogue of d-up, with three operands and results, spills a few registers.
d_up_spills = pytest.mark.xfail(reason="d-up's epilogue spills 16 to 36 bytes")


@needs_ptxas
@pytest.mark.parametrize(
    "dtype, name",
    [
        ("f32", "interleaved"),
        ("f32", "routed"),
        ("f32", "attention"),
        pytest.param("f16", "adapter", marks=d_up_spills),
        ("bf16", "linear"),
        pytest.param("bf16", "interleaved", marks=d_up_spills),
        pytest.param("bf16", "gated", marks=d_up_spills),
    ],
)
def test_kernels_have_no_defect(name, dtype):
    layer = layer_list.make_layers(dtype)[name]
    module = moe_mlir.compile(layer.text, target="sm_90a", grad="all", check=True)
    assert module.manifest["target"] == "sm_90a"
    for entry in layer.entries:
        assert any(other == "backward" or other.endswith("_backward") for other in module.entries), entry


@needs_ptxas
@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16"])
@pytest.mark.parametrize("name", ["interleaved", "routed", "attention", "adapter"])
def test_simt_kernels_have_no_defect(name, dtype):
    """On the oldest target every product is a SIMT kernel; the others take the same text."""
    moe_mlir.compile(layer_list.make_layers(dtype)[name].text, target="sm_80", grad="all", check=True)


@needs_ptxas
@pytest.mark.parametrize("target", ["sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_each_target_assembles(target):
    module = moe_mlir.compile(layer_list.make_layers("bf16")["routed"].text, target=target, grad="all", check=True)
    assert module.manifest["target"] == target
