# SPDX-License-Identifier: Apache-2.0
"""Whole layers on the GPU: forward and backward, streams, threads, graphs, repetition."""

import threading

import gpu
import layer_list
import moe_mlir
import pytest
import torch
from oracle import Slots, make_ids

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# (kind of ids, T, K, E, d, n): the awkward ones, then some that fill the device.
LAYERS = [
    ("distinct", 7, 2, 4, 16, 8),
    ("sentinels", 33, 3, 5, 24, 40),
    ("hot", 300, 2, 8, 136, 72),
    ("empty", 129, 2, 8, 20, 12),
    ("all_sentinels", 9, 2, 4, 16, 8),
    ("random", 0, 2, 3, 16, 8),
    ("random", 1, 1, 1, 7, 5),
    ("distinct", 1000, 8, 64, 256, 128),
    ("random", 5000, 16, 512, 64, 32),
]


def reference(x, ids, gates, w1, w2, experts):
    """The layer in float64, differentiable, on the device."""
    flat = ids.reshape(-1).long()
    valid = (flat >= 0) & (flat < experts)
    expert = flat.clamp(0, experts - 1)
    token = torch.arange(flat.numel(), device=x.device) // ids.shape[1]
    y = torch.zeros(flat.numel(), w2.shape[1], dtype=x.dtype, device=x.device)
    for e in range(experts):
        rows = ((expert == e) & valid).nonzero().flatten()
        if len(rows) == 0:
            continue
        h = x[token[rows]] @ w1[e].T
        n = h.shape[1] // 2
        y = y.index_add(0, rows, (torch.nn.functional.silu(h[:, :n]) * h[:, n:]) @ w2[e].T)
    y = y * gates.reshape(-1, 1)
    return torch.zeros_like(x).index_add(0, token, y)


def make(kind, tokens, k, experts, d, n, dtype):
    generator = torch.Generator().manual_seed(tokens + d)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=generator) * scale).to(dtype).to(gpu.DEVICE)

    ids = make_ids(kind, tokens, k, experts, torch.int64).to(gpu.DEVICE)
    return (
        normal(tokens, d), ids, torch.rand(tokens, k, generator=generator).to(dtype).to(gpu.DEVICE),
        normal(experts, 2 * n, d, scale=d**-0.5), normal(experts, d, n, scale=n**-0.5),
    ), normal(tokens, d)


def compiled(k, experts, d, n, dtype):
    name = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    layer = moe_mlir.layers.GatedMLP(d_model=d, d_expert=n, experts=experts, top_k=k, dtype=name, gate_dtype=name)
    return moe_mlir.compile(layer.text, target=gpu.TARGET, grad="x,gates,w1,w2")


def close(actual, exact, dtype, what):
    """Within `slack` roundings of the result's own size; roundings of the layer's buffers add up."""
    assert torch.isfinite(actual).all(), what
    if actual.numel() == 0:
        return
    error = (actual.double() - exact).norm()
    # f32 has nothing wider to sum in.
    slack = 40.0 if dtype == torch.float32 else 6.0
    bound = slack * torch.finfo(dtype).eps * exact.norm() + 1e-30
    assert error <= bound, (what, float(error), float(bound))


def backward_of(module, arguments, cotangent):
    outs = gpu.call(module["forward"], *arguments)
    entry = module["backward"]
    named = dict(zip((a["name"] for a in module["forward"].inputs), arguments))
    named.update(zip((o["name"] for o in module["forward"].outputs), outs))
    named["d_out"] = cotangent
    given = [named[a["name"]] for a in entry.inputs]
    return outs[0], dict(zip((o["name"] for o in entry.outputs), gpu.call(entry, *given)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", LAYERS, ids=lambda s: "-".join(map(str, s)))
def test_gated_mlp(shape, dtype):
    kind, tokens, k, experts, d, n = shape
    arguments, cotangent = make(*shape, dtype)
    module = compiled(k, experts, d, n, dtype)
    out, gradients = backward_of(module, arguments, cotangent)
    exact = [a.double().requires_grad_() if a.is_floating_point() else a for a in arguments]
    wanted = reference(*exact, experts)
    if not wanted.requires_grad:  # no token has an expert
        wanted = wanted + 0 * exact[0]
    close(out, wanted.detach(), dtype, "out")
    x, _, gates, w1, w2 = exact
    expected = torch.autograd.grad(wanted, [x, gates, w1, w2], cotangent.double(), allow_unused=True)
    for actual, want, what in zip(gradients.values(), expected, ("x", "gates", "w1", "w2"), strict=True):
        close(actual, torch.zeros_like(actual, dtype=torch.float64) if want is None else want, dtype, what)
    again, gradients_again = backward_of(module, arguments, cotangent)
    assert torch.equal(out, again)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, gradients_again[name]), name


SMALL = ("distinct", 500, 2, 8, 64, 32)


on_device = pytest.mark.skipif(gpu.DRY, reason="the CPU has no streams, graphs or alignment")


@on_device
def test_streams_and_threads():
    module = compiled(2, 8, 64, 32, torch.float32)
    arguments, _ = make(*SMALL, torch.float32)
    wanted = gpu.call(module["forward"], *arguments)[0]
    torch.cuda.synchronize()
    results, problems = {}, []

    def work(number):
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                mine = [a.clone() for a in arguments]
                for _ in range(20):
                    results[number] = gpu.call(module["forward"], *mine)[0]
                torch.cuda.current_stream().synchronize()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    for result in results.values():
        assert torch.equal(result, wanted)


@on_device
@pytest.mark.parametrize("first", [True, False], ids=["first-call-captured", "warm"])
def test_graph(first):
    # A width of its own: a module that this process has not called.
    d = 72 if first else 80
    module = compiled(2, 8, d, 32, torch.float32)
    entry = module["forward"]
    arguments, _ = make("distinct", 500, 2, 8, d, 32, torch.float32)
    outs, workspace = gpu.new_outputs(entry, arguments)
    if not first:
        entry(*arguments, out=outs, workspace=workspace)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        entry(*arguments, out=outs, workspace=workspace)
    others, _ = make("distinct", 500, 2, 8, d, 32, torch.float32)
    arguments[0].copy_(others[0].flip(0))
    gpu.fill(outs[0])
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(outs[0], gpu.call(entry, *arguments)[0])


@on_device
def test_errors_name_the_device():
    module = compiled(2, 8, 64, 32, torch.float32)
    arguments, _ = make(*SMALL, torch.float32)
    with pytest.raises(moe_mlir.errors.ArgumentError, match="copy it to one"):
        module["forward"](arguments[0].cpu(), *arguments[1:])
    with pytest.raises(moe_mlir.errors.ArgumentError, match="not aligned to 16 bytes"):
        shifted = torch.empty(500 * 64 + 1, device="cuda")[1:].view(500, 64)
        module["forward"](shifted, *arguments[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autograd(dtype):
    import moe_mlir.torch

    name = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    layer = moe_mlir.layers.GatedMLP(d_model=64, d_expert=32, experts=8, top_k=2, dtype=name, gate_dtype=name)
    module = moe_mlir.torch.MoE(layer, device=gpu.DEVICE, target=gpu.TARGET)
    (x, ids, gates, _, _), cotangent = make(*SMALL, dtype)
    x.requires_grad_()
    out = module(x, ids, gates)
    out.backward(cotangent)
    exact = [a.detach().double().requires_grad_() for a in (x, module.w1, module.w2)]
    wanted = reference(exact[0], ids, gates.double(), exact[1], exact[2], 8)
    wanted.backward(cotangent.double())
    close(out.detach(), wanted.detach(), dtype, "out")
    for actual, want, what in zip((x, module.w1, module.w2), exact, ("x", "w1", "w2"), strict=True):
        close(actual.grad, want.grad, dtype, what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_do_not_meet(dtype):
    """Inf and NaN of one expert's rows and weights reach no other expert's, forward or backward."""
    kind, tokens, k, experts, d, n = "random", 700, 1, 8, 64, 32
    arguments, cotangent = make(kind, tokens, k, experts, d, n, dtype)
    module = compiled(k, experts, d, n, dtype)
    out, gradients = backward_of(module, arguments, cotangent)
    x, ids, gates, w1, w2 = (a.clone() for a in arguments)
    bad = (ids == 3).flatten()
    x[bad] = float("nan")
    x[bad.nonzero()[::2].flatten()] = float("inf")
    w1[3], w2[3] = float("inf"), float("nan")
    out_bad, gradients_bad = backward_of(module, (x, ids, gates, w1, w2), cotangent)
    assert torch.equal(out[~bad], out_bad[~bad])
    for what, rows in (("d_x", ~bad), ("d_gates", ~bad)):
        assert torch.equal(gradients[what][rows], gradients_bad[what][rows]), what
    others = [e for e in range(experts) if e != 3]
    for what in ("d_w1", "d_w2"):
        assert torch.equal(gradients[what][others], gradients_bad[what][others]), what


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_token_alone(dtype):
    """A token's result has the same bits alone and among others."""
    arguments, _ = make("distinct", 4096, 2, 8, 64, 32, dtype)
    module = compiled(2, 8, 64, 32, dtype)
    x, ids, gates, w1, w2 = arguments
    all_rows = gpu.call(module["forward"], *arguments)[0]
    for tokens in (1, 2, 7, 64, 129):
        for first in (0, 1000, 4096 - tokens):
            part = slice(first, first + tokens)
            # Copies: rows of a slice need not begin at a multiple of 16 bytes.
            mine = [a[part].clone() for a in (x, ids, gates)]
            some = gpu.call(module["forward"], *mine, w1, w2)[0]
            assert torch.equal(some, all_rows[part]), (tokens, first)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", list(layer_list.make_layers("f32")))
@pytest.mark.parametrize("tokens", [0, 1, 37, 300])
def test_every_layer_as_on_the_cpu(name, dtype, tokens):
    """Forward and backward of each entry point: no further from f64 than the CPU's are, but for a rounding; two in f32,
    where both err by a few in exp alone."""
    layer = layer_list.make_layers(dtype)[name]
    exact_layer = layer_list.make_layers("f64")[name]
    modules = [
        moe_mlir.compile(layer.text, target=gpu.TARGET, grad="all"),
        moe_mlir.compile(layer.text, grad="all"),
        moe_mlir.compile(exact_layer.text, grad="all"),
    ]
    for entry in layer.entries:
        arguments = layer_list.arguments_of(layer, entry, tokens)
        results = []
        for module, device in zip(modules, (gpu.DEVICE, "cpu", "cpu")):
            wanted = module[entry if entry == "forward" else f"{entry}_forward"].inputs
            given = [a.to(device, getattr(torch, spec["dtype"])) for a, spec in zip(arguments, wanted, strict=True)]
            results.append([o.cpu() for o in run_both(module, entry, given)])
        for index, (ours, cpu, exact) in enumerate(zip(*results, strict=True)):
            what = (entry, index)
            assert ours.shape == exact.shape and ours.dtype == cpu.dtype, what
            if not ours.dtype.is_floating_point:
                assert torch.equal(ours, exact.to(ours.dtype)), what
                continue
            error, allowed = (ours.double() - exact).norm(), (cpu.double() - exact).norm()
            roundings = 2 if ours.dtype == torch.float32 else 1
            assert error <= 1.1 * allowed + roundings * torch.finfo(ours.dtype).eps * exact.norm() + 1e-30, what


def run_both(module, entry, arguments):
    """Results that forward shows, then all gradients, for cotangents that depend on nothing but shapes."""
    forward = module[entry if entry == "forward" else f"{entry}_forward"]
    outs = [torch.empty(s, dtype=getattr(torch, d), device=arguments[0].device) for d, s in forward.results(*arguments)]
    forward(*arguments, out=outs)
    shown = [o for o, spec in zip(outs, forward.outputs) if spec.get("kind", "result") == "result"]
    backward = module["backward" if entry == "forward" else f"{entry}_backward"]
    named = dict(zip((a["name"] for a in forward.inputs), arguments))
    named.update(zip((o["name"] for o in forward.outputs), outs))
    for o, spec in zip(outs, forward.outputs):
        if spec.get("kind", "result") == "result":
            wave = torch.arange(o.numel(), dtype=torch.float64).mul(0.7).sin().view(o.shape)
            named[f"d_{spec['name']}"] = wave.to(o.dtype).to(o.device)
    given = [named[a["name"]] for a in backward.inputs]
    gradients = [torch.empty(s, dtype=getattr(torch, d), device=given[0].device) for d, s in backward.results(*given)]
    backward(*given, out=gradients)
    return shown + gradients
