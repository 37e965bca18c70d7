# SPDX-License-Identifier: Apache-2.0
"""moe_mlir.torch: compiled forward and backward under torch.autograd."""

import gc
import itertools
import weakref

import moe_mlir
import moe_mlir.torch
import pytest
import torch
from layers_reference import arguments_of, describe, reference
from moe_mlir.layers import MLP, Adapter, GatedMLP, MixtureOfAttention, ParallelLinear, Router, Routing
from moe_mlir.torch import MoE, Operator
from oracle import Slots, random
from test_layers import as_list, check

MLP_SIZES = dict(d_model=10, d_expert=6, experts=4, top_k=2)
LINEAR_SIZES = dict(d_in=10, d_out=6, experts=4, top_k=2)


def mlp(**options):
    return MLP(**{**MLP_SIZES, **options})


def gated(**options):
    return GatedMLP(**{**MLP_SIZES, **options})


def linear(**options):
    return ParallelLinear(**LINEAR_SIZES, **options)


LAYERS = [
    *(linear(source=s, result=r, bias=True) for s in ("token", "slot", "grouped") for r in ("slot", "grouped")),
    linear(adapter=Adapter(3, scale=0.5), weight_layout="in_out"),
    *(mlp(activation=a, dtype="f64", gate_dtype="f64") for a in moe_mlir.layers.activations),
    mlp(bias=True, gate_on="input"),
    mlp(gate_on="none", weight_layout="in_out", dtype="f16"),
    mlp(adapter=Adapter(3, scale=2.0), bias=True),
    mlp(top_k=4, dtype="bf16"),
    gated(),
    gated(dtype="bf16", bias=True),
    gated(top_k=1, columns="separate", gate_first=False, bias=True),
    gated(limit=0.7, alpha=1.702, up_offset=1.0, columns="interleave", bias=True, weight_layout="in_out"),
    gated(gate_on="input", dtype="bf16", gate_dtype="bf16"),
    gated(d_shared=8, bias=True),
    gated(adapter=Adapter(2, scale=0.25)),
    gated(routing=Routing.mixtral(returns=("gates", "ids"))),
    gated(routing=Routing.gpt_oss(bias=True, mask=True), dtype="bf16"),
    gated(routing=Routing.qwen3(replay=True), id_dtype="i32", tokens=9),
    MixtureOfAttention(d_model=10, heads=2, head_dim=3, experts=4, top_k=2, bias=True),
    Router(experts=6, top_k=2, routing=Routing(score="sigmoid", normalize=True, returns=("scores", "logsumexp"))),
]
CASES = [pytest.param(layer, entry, id=f"{describe(layer)}-{entry}") for layer in LAYERS for entry in layer.entries]


def wants_gradient(name, value):
    return value.is_floating_point() and name != "bias"  # of a selection: its gradient is zero


def cotangents_of(results):
    return [random(*r.shape, seed=50 + n).to(r.dtype) for n, r in enumerate(results)]


def unspecified_to_zero(layer, results, ids):
    """Grouped rows beyond the experts' have no value, nor does their cotangent count."""
    if getattr(layer, "result", "") != "grouped":
        return results
    rows = Slots(ids, layer.experts).rows
    return [r[:rows] for r in results]


def autograd(layer, entry, named):
    """Gradients by name, of the float results' random combination, in float64."""
    wide = {n: a.detach().clone().double().requires_grad_() if wants_gradient(n, a) else a for n, a in named.items()}
    results = unspecified_to_zero(layer, reference(layer, entry, wide), named.get("ids"))
    floats = [r for r in results if r.is_floating_point()]
    sources = {n: a for n, a in wide.items() if a.requires_grad}
    # The same numbers as the layer's cotangents, of its dtypes.
    types = [getattr(torch, o.numpy_dtype) for o in layer.outputs(entry)]
    types = [t for t in types if t.is_floating_point]
    given = [c.to(t).double() for c, t in zip(cotangents_of(floats), types, strict=True)]
    found = torch.autograd.grad(floats, list(sources.values()), given, allow_unused=True)
    return {n: torch.zeros_like(s) if g is None else g for (n, s), g in zip(sources.items(), found)}


def rounded_gradients(layer, entry, named):
    """The oracle's, forward and backward apart, every tensor rounded: what fusion may not worsen."""
    numbers = [i for i, (n, a) in enumerate(named.items()) if wants_gradient(n, a)]
    text = moe_mlir._compiler.stage(layer._functions[entry][1], "differentiated", {"grad": numbers})
    prefix = "" if entry == "forward" else f"{entry}_"
    outs = as_list(moe_mlir.interpret(text, f"{prefix}forward", *named.values(), round=True))
    program = Operator(layer, entry).program(numbers)
    everything = [*named.values(), *outs]
    results = outs[: program.results]
    cotangents = full_cotangents(layer, results, named.get("ids"))
    kept = [everything[i] for i in program.residuals]
    return as_list(moe_mlir.interpret(text, f"{prefix}backward", *cotangents, *kept, round=True))


def full_cotangents(layer, results, ids):
    """Those of `autograd`, NaN in the rows that nothing may read."""
    floats = [r for r in results if r.is_floating_point()]
    full = [torch.full_like(r, float("nan")) for r in floats]
    part = unspecified_to_zero(layer, full, ids)
    for into, value in zip(part, cotangents_of(part)):
        into.copy_(value)
    return full


@pytest.mark.parametrize("layer, entry", CASES)
def test_gradients_of_layers(layer, entry):
    # Errors are compared, so there have to be enough of them.
    named = arguments_of(layer, entry, layer.tokens or 129)
    exact = autograd(layer, entry, named)
    rounded = rounded_gradients(layer, entry, named)
    for name, value in named.items():
        value.requires_grad_(wants_gradient(name, value))
    results = as_list(Operator(layer, entry)(*named.values()))
    floats = [r for r in results if r.is_floating_point()]
    torch.autograd.backward(floats, full_cotangents(layer, floats, named.get("ids")))
    for (name, want), baseline in zip(exact.items(), rounded, strict=True):
        got = named[name].grad
        if name == "x" and getattr(layer, "source", "token") != "token" or name == "o":
            slots = Slots(named["ids"], layer.experts)
            got, want, baseline = rows_with_an_expert(layer, slots, got, want, baseline)
        # A gate's gradient may be f32, but it is a sum of few numbers in the layer's type.
        check(got, want, baseline, 40, named.get("x", named.get("o", got)).dtype)


def rows_with_an_expert(layer, slots, *tensors):
    """Of gradients of slot or grouped rows: those that are specified."""
    if getattr(layer, "source", "slot") == "grouped":
        return [t[: slots.rows] for t in tensors]
    return tensors


@pytest.mark.parametrize("tokens, kind", [(0, "random"), (1, "hot"), (5, "all_sentinels"), (33, "empty")])
def test_other_numbers_of_tokens(tokens, kind):
    layer = gated(dtype="f64", gate_dtype="f64")
    named = arguments_of(layer, "forward", tokens, kind)
    exact = autograd(layer, "forward", named)
    for name in exact:
        named[name].requires_grad_()
    out = Operator(layer)(*named.values())
    out.backward(cotangents_of([out])[0])
    for name, want in exact.items():
        torch.testing.assert_close(named[name].grad, want, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------ what is computed

FLOATS = ("x", "gates", "w1", "w2")


@pytest.mark.parametrize("wanted", [c for n in (1, 2, 3) for c in itertools.combinations(FLOATS, n)][::2], ids="-".join)
def test_only_what_requires_grad(wanted):
    """Gradients of some arguments are those of all, and the others get none."""
    layer = gated(dtype="f64", gate_dtype="f64")
    named = arguments_of(layer, "forward", 9)
    exact = autograd(layer, "forward", named)
    for name in wanted:
        named[name].requires_grad_()
    operator = Operator(layer)
    out = operator(*named.values())
    out.backward(cotangents_of([out])[0])
    for name in FLOATS:
        if name in wanted:
            torch.testing.assert_close(named[name].grad, exact[name], rtol=1e-12, atol=1e-12)
        else:
            assert named[name].grad is None
    backward = moe_mlir.compile(layer, grad=wanted)["backward"]
    assert [o["name"] for o in backward.outputs] == [f"d_{name}" for name in wanted]


def saved_names(layer, *wanted):
    module = moe_mlir.compile(layer, grad=wanted)
    return {r["name"] for r in module["backward"].manifest["backward"]["residuals"]}


def test_frozen_weights_keep_nothing():
    layer = gated()
    tables = {"order", "position", "begin", "end"}
    assert saved_names(layer, "x", "gates", "w1", "w2") == {"x", "gates", "w1", "w2", "saved0"} | tables
    assert saved_names(layer, "x") == {"gates", "w1", "w2", "saved0"} | tables
    # The gradient of w2 alone: A', narrower than H and its gates.
    assert saved_names(layer, "w2") == {"saved0"} | tables


@pytest.mark.parametrize("dtype, wide", [("f32", False), ("bf16", False), ("bf16", True)])
def test_gradients_added_to_buffers(dtype, wide):
    """Twice the gradient after two calls; in f32 no rounding to bf16 on the way."""
    layer = gated(dtype=dtype, bias=True)
    named = arguments_of(layer, "forward", 33)
    exact = autograd(layer, "forward", named)
    module = moe_mlir.compile(layer, grad=("x", "w1", "b1", "w2"), accumulate=("w1", "b1"), accumulate_f32=wide)
    outs = as_list(module["forward"](*named.values()))
    values = {**named, **dict(zip((o["name"] for o in module["forward"].outputs), outs))}
    backward = module["backward"]
    assert backward.manifest["backward"]["accumulated"] == ["w1", "b1"]
    assert [o["name"] for o in backward.outputs] == ["d_x", "d_w2"]
    kept = [values[r["name"]] for r in backward.manifest["backward"]["residuals"]]
    type_ = torch.float32 if wide else named["w1"].dtype
    buffers = [torch.zeros_like(named[n], dtype=type_) for n in ("w1", "b1")]
    cotangent = cotangents_of(outs[:1])[0]
    for _ in range(2):
        backward(cotangent, *kept, *buffers)
    for name, buffer in zip(("w1", "b1"), buffers):
        want = 2 * exact[name]
        distance = (buffer.double() - want).square().mean().sqrt() / want.square().mean().sqrt()
        assert distance < {"f32": 1e-6, "bf16": 1e-2}[dtype]


def test_without_gradients_forward_alone_is_compiled():
    layer = gated()
    named = arguments_of(layer, "forward", 9)
    operator = Operator(layer)
    named["w1"].requires_grad_()
    with torch.no_grad():
        out = operator(*named.values())
    assert not out.requires_grad and set(operator._programs) == {("cpu", ())}
    assert operator(*named.values()).requires_grad


# ------------------------------------------------------------ torch.autograd


def small():
    layer = gated(dtype="f64", gate_dtype="f64")
    named = arguments_of(layer, "forward", 5)
    return Operator(layer), named


def test_gradcheck():
    operator, named = small()
    for name in FLOATS:
        named[name].requires_grad_()
    assert torch.autograd.gradcheck(operator, tuple(named.values()), fast_mode=True)


def test_changes_in_place_are_noticed():
    operator, named = small()
    named["w1"].requires_grad_()
    out = operator(*named.values())
    named["gates"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_residuals_are_freed_by_backward():
    operator, named = small()
    named["x"] = named["x"] * 1.0
    kept = weakref.ref(named["x"])
    named["w1"].requires_grad_()
    out = operator(*named.values())
    del named["x"]
    gc.collect()
    assert kept() is not None
    out.sum().backward()
    gc.collect()
    assert kept() is None
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


def test_backward_is_not_differentiated_again():
    operator, named = small()
    named["x"].requires_grad_()
    out = operator(*named.values())
    with pytest.raises(moe_mlir.errors.UnsupportedError, match="again, .*give Operator or MoE policy='recompute-all'"):
        torch.autograd.grad(out.sum(), named["x"], create_graph=True)


@pytest.mark.parametrize("layer", [
    gated(dtype="f64", gate_dtype="f64"),
    mlp(dtype="f64", gate_dtype="f64", bias=True, gate_on="input", top_k=1),
    linear(dtype="f64", bias=True, source="slot", result="slot"),
    gated(dtype="f64", gate_dtype="f64", columns="separate", limit=0.7, alpha=1.702, up_offset=1.0),
], ids=describe)
def test_backward_is_differentiated_again(layer):
    operator = Operator(layer, policy="recompute-all")
    named = arguments_of(layer, operator.entry, 5)
    for name, value in named.items():
        value.requires_grad_(wants_gradient(name, value))
    assert torch.autograd.gradgradcheck(operator, tuple(named.values()), fast_mode=True)


def test_gradient_penalty():
    layer = gated(dtype="f64", gate_dtype="f64")
    named = arguments_of(layer, "forward", 5)
    floats = [value.requires_grad_() for value in named.values() if value.is_floating_point()]

    def penalty(function):
        gradients = torch.autograd.grad(function().tanh().sum(), floats, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), floats)

    operator = Operator(layer, policy="recompute-all")
    for got, want in zip(penalty(lambda: operator(*named.values())),
                         penalty(lambda: reference(layer, "forward", named)[0]), strict=True):
        torch.testing.assert_close(got, want)


def test_gradients_add_up():
    operator, named = small()
    named["x"].requires_grad_()
    out = operator(*named.values())
    once = torch.autograd.grad(out.sum(), named["x"], retain_graph=True)[0]
    (out.sum() + operator(*named.values()).sum()).backward()
    torch.testing.assert_close(named["x"].grad, 2 * once)


def test_arguments_by_name():
    operator, named = small()
    x, ids, *_ = named.values()
    rest = {name: named[name] for name in ("w2", "w1", "gates")}
    assert torch.equal(operator(x, ids, **rest), operator(*named.values()))
    with pytest.raises(TypeError, match="missing: gates, w1; unknown or given twice: x"):
        operator(x, ids, w2=named["w2"], x=x)
    with pytest.raises(TypeError, match="takes torch tensors, got ndarray"):
        operator(x.numpy(), *list(named.values())[1:])


def test_wrong_shapes_are_refused_before_anything_runs():
    operator, named = small()
    named["w1"] = named["w1"][:, :-1].contiguous().requires_grad_()
    with pytest.raises(moe_mlir.errors.ArgumentError, match="argument 'w1': dimension 1 is 11, expected 12"):
        operator(*named.values())


def test_text_as_the_source():
    layer = gated(dtype="f64", gate_dtype="f64")
    named = arguments_of(layer, "forward", 5)
    named["w1"].requires_grad_()
    assert torch.equal(Operator(layer.text)(*named.values()), Operator(layer)(*named.values()))


def test_operators_go_with_their_modules():
    operator, named = small()
    operator(*named.values())
    entry = weakref.ref(moe_mlir.torch._ENTRIES[operator.program().forward])
    del operator
    gc.collect()
    assert entry() is None


def test_under_torch_compile():
    """One graph, the layer compiled while it is traced, for any number of tokens."""
    layer = gated(dtype="f64", gate_dtype="f64", activation="tanh")
    operator = Operator(layer)

    def function(*arguments):
        return operator(*arguments).sin() * 2

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (3, 8):
        named = arguments_of(layer, "forward", tokens)
        for name in FLOATS:
            named[name].requires_grad_()
        gradients = []
        for call in (function, compiled):
            out = call(*named.values())
            gradients.append([out, *torch.autograd.grad(out.sum(), [named[n] for n in FLOATS])])
        assert all(map(torch.equal, *gradients))


# ------------------------------------------------------------ nn.Module


def test_module():
    layer = gated(bias=True, weight_layout="in_out", adapter=Adapter(2))
    module = MoE(layer)
    assert [n for n, _ in module.named_parameters()] == ["w1", "b1", "w1_a", "w1_b", "w2", "b2", "w2_a", "w2_b"]
    assert module.w1.shape == (4, 10, 12) and 0.9 < module.w1.abs().max() * 10**0.5 <= 1
    assert not module.b1.any() and not module.w2_b.any() and module.w2_a.any()
    named = arguments_of(layer, "forward", 7)
    out = module(named["x"], named["ids"], gates=named["gates"])
    out.sum().backward()
    assert all(p.grad is not None and p.grad.any() for n, p in module.named_parameters() if not n.endswith("_a"))
    clone = MoE(layer)
    clone.load_state_dict(module.state_dict())
    assert torch.equal(clone(named["x"], named["ids"], named["gates"]), out)
    with pytest.raises(TypeError, match=r"takes \(x, ids, gates\), got 2 tensors"):
        module(named["x"], named["ids"])
    assert "gated" in repr(module).lower()


def test_selection_bias_is_a_buffer():
    module = MoE(gated(routing=Routing.deepseek_v3(n_group=1, topk_group=1)))
    assert [n for n, _ in module.named_buffers()] == ["bias"]
    assert [n for n, _ in module.named_parameters()] == ["w1", "w2"]


def test_autocast_converts_to_the_layers_dtypes():
    layer = gated(dtype="bf16")
    module = MoE(layer).float()
    named = arguments_of(layer, "forward", 7)
    x = named["x"].float().requires_grad_()
    with pytest.raises(moe_mlir.errors.ArgumentError, match="'x': dtype is float32, expected bfloat16"):
        module(x, named["ids"], named["gates"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x, named["ids"], named["gates"])
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert x.grad.dtype == module.w1.grad.dtype == torch.float32
