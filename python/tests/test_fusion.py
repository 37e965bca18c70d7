# SPDX-License-Identifier: Apache-2.0
"""Fused kernels against the ops they came from, for every layer; what `explain` counts."""

import dataclasses

import moe_mlir
import moe_mlir.torch
import pytest
import torch
from layers_reference import arguments_of, describe, reference
from moe_mlir.layers import GatedMLP, Router
from moe_mlir.torch import Operator
from oracle import Slots, equal
from test_gradients_layers import CONFIGURATIONS
from test_gradients_torch import autograd, full_cotangents, rows_with_an_expert, wants_gradient
from test_layers import CASES, LAYERS, as_list, gated


def in_double(layer):
    """The layer in f64: fusion may change the order of a sum there, and nothing else."""
    double = {"dtype": "f64", "gate_dtype": "f64"}
    names = {field.name for field in dataclasses.fields(layer)}
    return dataclasses.replace(layer, **{k: v for k, v in double.items() if k in names})


def close(got, want):
    """Equal but for the order of sums in f64, and a rounding where a result is f32 all the same;
    what PyTorch leaves NaN is unspecified."""
    got, want = got[~want.isnan()], want[~want.isnan()]
    equal(got, want.to(got.dtype), 1e-10 if got.dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("layer, entry", CASES)
def test_fused_layers_agree_with_pytorch(layer, entry):
    """Forward and backward, run by the oracle after all fusions."""
    layer = in_double(layer)
    named = arguments_of(layer, entry, layer.tokens or 9)
    numbers = [i for i, (n, a) in enumerate(named.items()) if wants_gradient(n, a)]
    program = Operator(layer, entry).program(numbers)
    ir = moe_mlir._compiler.stage(layer._functions[entry][1], "fused", {"grad": numbers})
    prefix = "" if entry == "forward" else f"{entry}_"
    outs = as_list(moe_mlir.interpret(ir, f"{prefix}forward", *named.values()))
    results = outs[: program.results]
    for want, got in zip(reference(layer, entry, named), results, strict=True):
        close(got, want)
    everything = [*named.values(), *outs]
    kept = [everything[i] for i in program.residuals]
    cotangents = full_cotangents(layer, results, named.get("ids"))
    gradients = as_list(moe_mlir.interpret(ir, f"{prefix}backward", *cotangents, *kept))
    for (name, want), got in zip(autograd(layer, entry, named).items(), gradients, strict=True):
        if name == "x" and getattr(layer, "source", "token") != "token" or name == "o":
            slots = Slots(named["ids"], layer.experts)
            got, want = rows_with_an_expert(layer, slots, got, want)
        close(got, want)


# ---- explain ----------------------------------------------------------------------


def amount(size, tokens):
    """A size of the report at a number of tokens."""
    return size if isinstance(size, int) else size["const"] + size.get("T", 0) * tokens


@pytest.mark.parametrize("tokens, d, n, experts, k", CONFIGURATIONS)
def test_residual_bytes(tokens, d, n, experts, k):
    layer = GatedMLP(d_model=d, d_expert=n, experts=experts, top_k=k, dtype="bf16")
    report = layer.explain(grad="all", as_dict=True, tokens=tokens if k > 4 else None)
    forward, backward = report["functions"]
    residuals = backward["residuals"]
    size = {one["name"]: amount(one["bytes"], tokens) for one in residuals["list"]}
    kinds = {one["name"]: one["kind"] for one in residuals["list"]}
    assert kinds == {
        **dict.fromkeys(["x", "gates", "w1", "w2"], "argument"),
        **dict.fromkeys(["order", "position", "begin", "end"], "table"),
        "saved0": "saved",
    }
    assert size["x"] + amount(residuals["saved"], tokens) == 2 * tokens * d + 4 * tokens * n * k
    assert size["order"] == size["position"] == 4 * tokens * k
    flops = 2 * tokens * k * d * 3 * n
    assert amount(forward["flops"], tokens) == flops
    assert amount(backward["flops"], tokens) == 2 * flops
    assert report["refused"] == []


def test_buffers_of_a_gated_mlp():
    report = gated(dtype="bf16").explain(grad="all", as_dict=True)
    forward, backward = report["functions"]
    products = "moe.grouped_matmul", "moe.grouped_matmul", "moe.combine_rows"
    assert [kernel["op"] for kernel in forward["kernels"]] == ["moe.sort_slots", *products]
    assert sorted(kernel["op"] for kernel in backward["kernels"]) == sorted([*products, *["moe.grouped_outer"] * 2])
    d, n, k = 20, 12, 2
    # A and Y; dH, A', dX and one partial a slot.
    assert sorted(b["bytes"]["T"] for b in forward["buffers"]) == sorted([2 * n * k, 2 * d * k])
    assert sorted(b["bytes"]["T"] for b in backward["buffers"]) == sorted([4 * n * k, 2 * n * k, 2 * d * k, 4 * k])
    for buffer in [*forward["buffers"], *backward["buffers"]]:
        assert buffer["why"] and buffer["written_by"] and buffer["read_by"]
    assert any(made["pass"] == "moe-fuse-epilogues" and made.get("bytes") for made in report["fused"])


def test_buffers_of_adapters():
    """Beside the layer's own, backward has buffers of r columns alone, and no kernel but d-low's."""
    d, n, k, r = 20, 12, 2, 2
    for columns, ups in ("concat", 1), ("separate", 2):
        layer = gated(dtype="bf16", columns=columns, adapter=moe_mlir.layers.Adapter(r))
        report = layer.explain(grad="all", as_dict=True)
        backward = report["functions"][1]
        ops = [kernel["op"] for kernel in backward["kernels"]]
        # d-low of down and of each up, d-up, d-X.
        assert ops.count("moe.grouped_matmul") == 3 + ups and ops.count("moe.combine_rows") == 1
        assert set(ops) == {"moe.grouped_matmul", "moe.combine_rows", "moe.grouped_outer"}
        rows = [4 * n * k] if ups == 1 else [2 * n * k] * 2
        low = [2 * r * k] * (1 + ups)
        assert sorted(b["bytes"]["T"] for b in backward["buffers"]) == sorted([*rows, 2 * n * k, 2 * d * k, 4 * k, *low])


def test_explain_says_what_was_refused():
    layer = gated(columns="separate", bias=True)
    report = layer.explain(as_dict=True)
    assert any("products are not summed" in refused["reason"] for refused in report["refused"])
    report = layer.explain(grad="all", as_dict=True)
    assert any("a row sum is known only when" in refused["reason"] for refused in report["refused"])
    text = layer.explain(grad="all")
    assert "fusions that were not made, and why:" in text and "workspace:" in text


def products(report):
    """The variants of each matrix product of a report."""
    kernels = [kernel for function in report["functions"] for kernel in function["kernels"]]
    return [kernel["variants"] for kernel in kernels if kernel["op"] in ("moe.grouped_matmul", "moe.grouped_outer")]


def test_explain_says_which_kernels_run():
    layer = GatedMLP(d_model=64, d_expert=64, experts=4, top_k=2, dtype="bf16")
    report = layer.explain(target="sm_90a", grad="all", as_dict=True)
    assert report["target"] == "sm_90a" and len(products(report)) == 6
    for (variant,) in products(report):
        assert variant["structure"] == "cooperative" and variant["tile"] == [128, 256] and variant["stages"] >= 3
        parts = f", of experts with many rows in up to {variant['parts']} parts" if "parts" in variant else ""
        assert variant["reduction"] == "steps of 64 terms, ascending" + parts and "reason" not in variant
    # Two weight gradients, of one tile an expert.
    assert sorted(variant.get("parts", 0) for (variant,) in products(report)) == [0, 0, 0, 0, 256, 256]
    for (variant,) in products(layer.explain(target="sm_80", grad="all", as_dict=True)):
        assert variant["structure"] == "simt" and variant["reason"] == "sm_80 has no kernels for it yet, sm_90a has"
    text = layer.explain(target="sm_90a")
    assert "kernels on sm_90a:" in text and "cooperative tile 128x256 stages" in text
    on_cpu = layer.explain(as_dict=True)
    assert on_cpu["target"] == "cpu" and "variants" not in on_cpu["functions"][0]["kernels"][0]
    assert "kernels on" not in layer.explain()
    with pytest.raises(moe_mlir.Error, match="target is 'sm_70', expected cpu or one of sm_80"):
        layer.explain(target="sm_70")


@pytest.mark.parametrize("layer", LAYERS[::6], ids=describe)
def test_explain_takes_every_layer(layer):
    report = layer.explain(as_dict=True, tokens=100)
    assert [function["name"] for function in report["functions"]] == list(layer.entries)
    for function in report["functions"]:
        assert function["kernels"] and (function["flops"] > 0 or isinstance(layer, Router))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="tokens is -1"):
        gated().explain(tokens=-1)
    with pytest.raises(moe_mlir.Error, match="nothing"):
        gated().explain(grad="nothing")
