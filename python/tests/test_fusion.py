# SPDX-License-Identifier: Apache-2.0
"""Fused kernels against the ops they came from, for every layer; what `explain` counts."""

import dataclasses

import moe_mlir
import pytest
import torch
from gradients import CONFIGURATIONS
from layers_reference import arguments_of
from moe_mlir.layers import GatedMLP
from oracle import equal
from test_gradients_torch import as_list, full_cotangents, wants_gradient
from test_layers import CASES, LAYERS, describe, gated
from moe_mlir.torch import Operator


def in_double(layer):
    """The layer in f64: fusion may change the order of a sum there, and nothing else."""
    double = {"dtype": "f64", "gate_dtype": "f64"}
    names = {field.name for field in dataclasses.fields(layer)}
    return dataclasses.replace(layer, **{k: v for k, v in double.items() if k in names})


@pytest.mark.parametrize("layer, entry", CASES)
def test_fused_layers_agree_with_the_oracle(layer, entry):
    layer = in_double(layer)
    named = arguments_of(layer, entry, layer.tokens or 9)
    numbers = [i for i, (n, a) in enumerate(named.items()) if wants_gradient(n, a)]
    text = layer._functions[entry][1]
    prefix = "" if entry == "forward" else f"{entry}_"
    program = Operator(layer, entry).program(numbers)
    found = []
    for stage in ("differentiated", "fused"):
        ir = moe_mlir._compiler.stage(text, stage, {"grad": numbers})
        outs = as_list(moe_mlir.interpret(ir, f"{prefix}forward", *named.values()))
        everything = [*named.values(), *outs]
        cotangents = full_cotangents(layer, outs[: program.results], named.get("ids"))
        kept = [everything[i] for i in program.residuals]
        gradients = as_list(moe_mlir.interpret(ir, f"{prefix}backward", *cotangents, *kept))
        found.append([*outs, *gradients])
    for want, got in zip(*found, strict=True):
        equal(got, want, 1e-10)


# ---- explain ----------------------------------------------------------------------


def amount(size, tokens):
    """A size of the report at a number of tokens."""
    return size if isinstance(size, int) else size["const"] + size.get("T", 0) * tokens


@pytest.mark.parametrize("tokens, d, n, experts, k", CONFIGURATIONS)
@pytest.mark.parametrize("at", [True, False])
def test_residual_bytes(tokens, d, n, experts, k, at):
    layer = GatedMLP(d_model=d, d_expert=n, experts=experts, top_k=k, dtype="bf16")
    report = layer.explain(grad="all", as_dict=True, tokens=tokens if at else None)
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


def test_explain_says_what_was_refused():
    layer = gated(columns="separate", adapter=moe_mlir.layers.Adapter(2))
    report = layer.explain(grad="all", as_dict=True)
    assert any("products" in refused["reason"] for refused in report["refused"])
    text = layer.explain(grad="all")
    assert "fusions that were not made, and why:" in text and "workspace:" in text


@pytest.mark.parametrize("layer", LAYERS[::6], ids=describe)
def test_explain_takes_every_layer(layer):
    report = layer.explain(as_dict=True, tokens=100)
    assert [function["name"] for function in report["functions"]] == list(layer.entries)
    for function in report["functions"]:
        assert function["flops"] > 0 and function["kernels"]


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="tokens is -1"):
        gated().explain(tokens=-1)
    with pytest.raises(moe_mlir.CompileError, match="nothing"):
        gated().explain(grad="nothing")
