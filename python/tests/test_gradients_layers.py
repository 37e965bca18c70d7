# SPDX-License-Identifier: Apache-2.0
"""Whole layers: gradients, their simplification and their partition, in float64."""

import re

import pytest
import torch
from gradients import check, differentiate, gradients_of, passes
from oracle import equal, interpret, random, shapes
from test_gradients_ops import combine, linear, t

SIMPLIFY = "func.func(moe-simplify-gradients),canonicalize,cse"
SWIGLU = """
    %one = arith.constant 1.0 : {c}
    %neg = arith.negf %u : {c}
    %exp = math.exp %neg : {c}
    %den = arith.addf %one, %exp : {c}
    %silu = arith.divf %u, %den : {c}
    %out = arith.mulf %silu, %v : {c}"""


def gated_mlp(slots_type, k, experts, d, n, element="f64", bias=False, tokens="?", input_gate=False):
    compute = "f64" if element == "f64" else "f32"

    def e(*sizes):
        return t(*sizes, e=element)

    rows = "?" if tokens == "?" else tokens * k
    b1 = f" bias(%b1 : {e(experts, 2 * n)})" if bias else ""
    b2 = f" bias(%b2 : {e(experts, d)})" if bias else ""
    if input_gate:
        up = f"""
  %xg = moe.group %x from token by %a : {e(tokens, d)}, {slots_type} -> {e(rows, d)}
  %gg = moe.group %g from slot by %a : {e(tokens, k)}, {slots_type} -> {e(rows)}
  %xs = moe.rowwise grouped by %a : {slots_type} ins(%xg : {e(rows, d)} rows, %gg : {e(rows)} scalar) outs({e(rows, d)} rows) {{
  ^bb0(%u: {compute}, %s: {compute}):
    %m = arith.mulf %u, %s : {compute}
    moe.yield %m : {compute}
  }}
  %h = moe.parallel_linear %xs, %w1 by %a from grouped to grouped out_in{b1} : {e(rows, d)}, {e(experts, 2 * n, d)}, {slots_type} -> {e(rows, 2 * n)}"""
        gates = ""
    else:
        up = f"""
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped out_in{b1} : {e(tokens, d)}, {e(experts, 2 * n, d)}, {slots_type} -> {e(rows, 2 * n)}"""
        gates = f" gates(%g : {e(tokens, k)})"
    return f"""
func.func @f(%ids: tensor<{tokens}x{k}xi32>, %x: {e(tokens, d)}, %w1: {e(experts, 2 * n, d)}, %w2: {e(experts, d, n)}, %g: {e(tokens, k)}, %b1: {e(experts, 2 * n)}, %b2: {e(experts, d)}) -> {e(tokens, d)} {{
  %a = moe.assign ids(%ids : tensor<{tokens}x{k}xi32>) : {slots_type}{up}
  %act = moe.rowwise grouped by %a : {slots_type} ins(%h : {e(rows, 2 * n)} rows concat 2) outs({e(rows, n)} rows) {{
  ^bb0(%u: {compute}, %v: {compute}):{SWIGLU.format(c=compute)}
    moe.yield %out : {compute}
  }}
  %y = moe.parallel_linear %act, %w2 by %a from grouped to grouped out_in{b2} : {e(rows, n)}, {e(experts, d, n)}, {slots_type} -> {e(rows, d)}
  %o = moe.combine %y from grouped by %a{gates} : {e(rows, d)}, {slots_type} -> {e(tokens, d)}
  return %o : {e(tokens, d)}
}}"""


def gated_mlp_reference(slots, bias, input_gate=False):
    def function(ids, x, w1, w2, g, b1, b2):
        n = w2.shape[2]
        gate = g.reshape(-1, 1)
        rows = slots.by_slot(x, "token")
        h = linear(slots, rows * gate if input_gate else rows, w1, bias=b1 if bias else None)
        a = torch.nn.functional.silu(h[:, :n]) * h[:, n:]
        y = linear(slots, a, w2, bias=b2 if bias else None)
        return combine(slots, y if input_gate else y * gate)

    return function


def layer_arguments(slots, d, n):
    e = slots.experts
    return [
        slots.ids,
        random(slots.tokens, d, seed=1),
        random(e, 2 * n, d, seed=2),
        random(e, d, n, seed=3),
        random(slots.tokens, slots.k, seed=4),
        random(e, 2 * n, seed=5),
        random(e, d, seed=6),
    ]


@shapes()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("input_gate", [False, True])
def test_gated_mlp(slots, bias, input_gate):
    text = gated_mlp(slots.type, slots.k, slots.experts, 4, 3, bias=bias, input_gate=input_gate)
    wrt = [1, 2, 3, 4] + ([5, 6] if bias else [])
    function = gated_mlp_reference(slots, bias, input_gate)
    check(text, function, layer_arguments(slots, 4, 3), wrt, pipeline=SIMPLIFY)


def residuals_of(text, function):
    listed = re.search(rf"@{function}\(.*moe\.residuals = \[(.*?)\]", text).group(1)
    found = re.findall(r'bytes = (\d+) : i64, index = (\d+) : i64, kind = "(\w+)"', listed)
    return [(kind, int(index), int(size)) for size, index, kind in found]


def run_partitioned(text, arguments, cotangents):
    """Results of forward, gradients of backward, fed as moe.residuals says."""
    outs = interpret(text, *arguments, entry="f_forward")
    kept = []
    for kind, index, _ in residuals_of(text, "f_backward"):
        kept.append(arguments[index] if kind == "argument" else outs[index])
    return outs, interpret(text, *cotangents, *kept, entry="f_backward")


@shapes()
@pytest.mark.parametrize("policy", ["save-all", "recompute-elementwise", "recompute-all", "budget"])
@pytest.mark.parametrize("bias", [False, True])
def test_partition_of_a_gated_mlp(slots, policy, bias):
    text = gated_mlp(slots.type, slots.k, slots.experts, 4, 3, bias=bias)
    wrt = [1, 2, 3, 4, 5, 6] if bias else [1, 2, 3, 4]
    option = "budget-bytes=0" if policy == "budget" else f"policy={policy}"
    arguments = [a.requires_grad_() if a.dtype == torch.float64 else a for a in layer_arguments(slots, 4, 3)]
    result = gated_mlp_reference(slots, bias)(*arguments)
    cotangent = random(*result.shape, seed=9)
    expected = gradients_of([result], [arguments[i] for i in wrt], [cotangent])
    joint = differentiate(text, "f", wrt)
    split = passes(joint, f"{SIMPLIFY},moe-partition{{{option}}}")
    outs, gradients = run_partitioned(split, arguments, [cotangent])
    equal(outs[0], result.detach(), 1e-9)
    for got, want in zip(gradients, expected, strict=True):
        equal(got, want.detach(), 1e-9)
    saved = [kind for kind, _, _ in residuals_of(split, "f_backward") if kind == "saved"]
    if policy == "recompute-elementwise":
        assert len(saved) == 1  # H
    elif policy in ("recompute-all", "budget"):
        assert not saved


# (T, d, n, E, K)
CONFIGURATIONS = [
    (40960, 768, 256, 128, 8),
    (40960, 768, 512, 64, 4),
    (40960, 768, 1024, 32, 2),
    (24576, 1536, 256, 128, 8),
    (24576, 1536, 512, 64, 4),
    (24576, 1536, 1024, 32, 2),
    (32768, 4096, 256, 256, 16),
    (32768, 4096, 512, 128, 8),
    (32768, 4096, 1024, 64, 4),
    (32768, 4096, 512, 256, 16),
    (32768, 4096, 1024, 128, 8),
    (32768, 4096, 2048, 64, 4),
]


@pytest.mark.parametrize("tokens, d, n, experts, k", CONFIGURATIONS)
def test_residual_bytes(tokens, d, n, experts, k):
    """2 T d + 4 T n K bytes in bf16, and the tables: X is passed again, H saved."""
    text = gated_mlp(f"!moe.assignment<{tokens}x{k}, {experts}>", k, experts, d, n, "bf16", tokens=tokens)
    split = passes(differentiate(text, "f", [1, 2, 3, 4]), f"{SIMPLIFY},moe-partition")
    residuals = residuals_of(split, "f_backward")
    saved = sum(size for kind, _, size in residuals if kind == "saved")
    x = sum(size for kind, index, size in residuals if kind == "argument" and index == 1)
    tables = sum(size for kind, _, size in residuals if kind == "table")
    assert saved + x == 2 * tokens * d + 4 * tokens * n * k
    assert tables == 4 * (2 * tokens * k + 2 * experts)
    assert {index for kind, index, _ in residuals if kind == "argument"} == {1, 2, 3, 4}


def test_frozen_weights_keep_neither_x_nor_a():
    slots_type = "!moe.assignment<64x2, 4>"
    text = gated_mlp(slots_type, 2, 4, 16, 8, "bf16", tokens=64)
    split = passes(differentiate(text, "f", [1]), f"{SIMPLIFY},moe-partition")
    residuals = residuals_of(split, "f_backward")
    assert {index for kind, index, _ in residuals if kind == "argument"} == {2, 3, 4}
    assert sum(size for kind, _, size in residuals if kind == "saved") == 4 * 64 * 8 * 2


@shapes()
def test_mixture_of_attention_projections(slots):
    """Query and output projections scattered on both sides, math in between."""
    k, s, e, d, n = slots.k, slots.type, slots.experts, 3, 4
    text = f"""
func.func @f(%ids: tensor<?x{k}xi32>, %x: {t("?", d)}, %wq: {t(e, n, d)}, %wo: {t(e, d, n)}, %g: {t("?", k)}) -> {t("?", d)} {{
  %a = moe.assign ids(%ids : tensor<?x{k}xi32>) : {s}
  %q = moe.parallel_linear %x, %wq by %a from token to slot out_in : {t("?", d)}, {t(e, n, d)}, {s} -> {t("?", n)}
  %h = math.tanh %q : {t("?", n)}
  %y = moe.parallel_linear %h, %wo by %a from slot to slot out_in : {t("?", n)}, {t(e, d, n)}, {s} -> {t("?", d)}
  %o = moe.combine %y from slot by %a gates(%g : {t("?", k)}) : {t("?", d)}, {s} -> {t("?", d)}
  return %o : {t("?", d)}
}}"""

    def function(ids, x, wq, wo, g):
        q = linear(slots, slots.by_slot(x, "token"), wq)
        return combine(slots, linear(slots, q.tanh(), wo) * g.reshape(-1, 1))

    arguments = [
        slots.ids,
        random(slots.tokens, d, seed=1),
        random(e, n, d, seed=2),
        random(e, d, n, seed=3),
        random(slots.tokens, k, seed=4),
    ]
    check(text, function, arguments, [1, 2, 3, 4], pipeline=SIMPLIFY)


@pytest.mark.parametrize("tokens", [0, 1, 9])
def test_routed_layer_with_a_shared_expert(tokens):
    """Router, MLP by expert, gates, and a dense layer beside: gradient of all."""
    d, n, e, k = 3, 4, 5, 2
    s = f"!moe.assignment<?x{k}, {e}>"
    text = f"""
func.func @f(%x: {t("?", d)}, %wr: {t(d, e)}, %w1: {t(e, n, d)}, %w2: {t(e, d, n)}, %ws: {t(d, d)}) -> {t("?", d)} {{
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f64
  %t = tensor.dim %x, %c0 : {t("?", d)}
  %e0 = tensor.empty(%t) : {t("?", e)}
  %z0 = linalg.fill ins(%zero : f64) outs(%e0 : {t("?", e)}) -> {t("?", e)}
  %l = linalg.matmul ins(%x, %wr : {t("?", d)}, {t(d, e)}) outs(%z0 : {t("?", e)}) -> {t("?", e)}
  %g, %i = moe.route %l softmax score_then_topk {{normalize}} : {t("?", e)} -> {t("?", k)}, tensor<?x{k}xi32>
  %a = moe.assign ids(%i : tensor<?x{k}xi32>) : {s}
  %h = moe.parallel_linear %x, %w1 by %a from token to grouped out_in : {t("?", d)}, {t(e, n, d)}, {s} -> {t("?", n)}
  %act = moe.rowwise grouped by %a : {s} ins(%h : {t("?", n)} rows) outs({t("?", n)} rows) {{
  ^bb0(%u: f64):
    %v = math.tanh %u : f64
    moe.yield %v : f64
  }}
  %y = moe.parallel_linear %act, %w2 by %a from grouped to grouped out_in : {t("?", n)}, {t(e, d, n)}, {s} -> {t("?", d)}
  %o = moe.combine %y from grouped by %a gates(%g : {t("?", k)}) : {t("?", d)}, {s} -> {t("?", d)}
  %e1 = tensor.empty(%t) : {t("?", d)}
  %z1 = linalg.fill ins(%zero : f64) outs(%e1 : {t("?", d)}) -> {t("?", d)}
  %sh = linalg.matmul ins(%x, %ws : {t("?", d)}, {t(d, d)}) outs(%z1 : {t("?", d)}) -> {t("?", d)}
  %r = arith.addf %o, %sh : {t("?", d)}
  return %r : {t("?", d)}
}}"""

    def function(x, wr, w1, w2, ws):
        gates, ids = torch.topk(torch.softmax(x @ wr, 1), k, dim=1)
        gates = gates / gates.sum(1, keepdim=True)
        h = torch.einsum("td,tknd->tkn", x, w1[ids]).tanh()
        y = torch.einsum("tkn,tkdn->tkd", h, w2[ids])
        return (y * gates[:, :, None]).sum(1) + x @ ws

    arguments = [random(tokens, d), random(d, e), random(e, n, d), random(e, d, n), random(d, d)]
    check(text, function, arguments, [0, 1, 2, 3, 4], pipeline=SIMPLIFY)
    # and through forward and backward
    arguments = [a.detach().requires_grad_() for a in arguments]
    result = function(*arguments)
    cotangent = random(*result.shape, seed=7)
    split = passes(differentiate(text, "f", range(5)), f"{SIMPLIFY},moe-partition")
    outs, gradients = run_partitioned(split, arguments, [cotangent])
    equal(outs[0], result.detach(), 1e-9)
    for got, want in zip(gradients, gradients_of([result], arguments, [cotangent]), strict=True):
        equal(got, want.detach(), 1e-9)


@shapes()
@pytest.mark.parametrize("policy", ["save-all", "recompute-elementwise", "recompute-all"])
def test_weights_later(slots, policy):
    """backward_input and then backward_weight give what backward gives."""
    text = gated_mlp(slots.type, slots.k, slots.experts, 4, 3, bias=True)
    joint = differentiate(text, "f", [1, 2, 3, 4, 5, 6])
    split = passes(joint, f"{SIMPLIFY},moe-partition{{policy={policy} split-weights=2,3,5,6}}")
    arguments = layer_arguments(slots, 4, 3)
    cotangent = random(slots.tokens, 4, seed=9)
    outs, expected = run_partitioned(split, arguments, [cotangent])
    kept = [arguments[i] if kind == "argument" else outs[i] for kind, i, _ in residuals_of(split, "f_backward_input")]
    first = interpret(split, cotangent, *kept, entry="f_backward_input")
    inputs = [cotangent, *kept]
    carried = [inputs[i] if kind == "argument" else first[i] for kind, i, _ in residuals_of(split, "f_backward_weight")]
    later = interpret(split, *carried, entry="f_backward_weight")
    actual = {0: first[0], 3: first[1], 1: later[0], 2: later[1], 4: later[2], 5: later[3]}
    for n, want in enumerate(expected):
        equal(actual[n], want, 1e-12)
    # What it carries is no product of its own: those of weights come later.
    assert "moe.weight_grad" not in split.split("@f_backward_input(")[1].split("func.func")[0]
