# SPDX-License-Identifier: Apache-2.0
"""Whole layers on the GPU, forward and backward, against float64."""

import math

import gpu
import layer_list
import moe_mlir
import pytest
import torch
from gpu_layer import backward_of, close, compiled, make, reference

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
    ("distinct", 65, 8, 8, 64, 32),  # K = E
    ("random", 700, 3, 3, 64, 64),  # an expert again and again in a token
    ("hot", 4097, 1, 6, 64, 64),
    ("distinct", 1000, 8, 64, 256, 128),
    ("distinct", 1500, 4, 24, 328, 200),  # ragged in every tile
    ("random", 5000, 16, 512, 64, 32),
    ("empty", 2000, 2, 200, 256, 128),  # experts without rows between those of a block
    ("random", 6000, 4, 8, 2048, 64),  # more to store than to multiply
    ("random", 65536, 2, 24, 64, 128),
]


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


def token_rows(layer, entry):
    """How many rows a token has in each argument; 0 where rows are not by token."""
    one, two = ([argument.shape(T=tokens) for argument in layer.inputs(entry)] for tokens in (1, 2))
    return [a[0] if a != b else 0 for a, b in zip(one, two)]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", list(layer_list.make_layers("f32")))
def test_rows_of_every_layer_have_the_same_bits_anywhere(name, dtype):
    """A token alone, and in batches of others at any place: results, and gradients of what belongs to it."""
    layer, tokens = layer_list.make_layers(dtype)[name], 301
    module = moe_mlir.compile(layer.text, target=gpu.TARGET, grad="all")
    for entry in layer.entries:
        wanted = module[entry if entry == "forward" else f"{entry}_forward"].inputs
        arguments = [a.to(gpu.DEVICE, getattr(torch, spec["dtype"]))
                     for a, spec in zip(layer_list.arguments_of(layer, entry, tokens), wanted, strict=True)]
        rows = token_rows(layer, entry)

        def of(given, batch, place):
            """The rows of token `place` in results of `batch` tokens."""
            found = []
            for result in run_both(module, entry, given, cotangent=of_tokens(batch)):
                count = len(result) // len(batch) if result.dim() and len(result) % len(batch) == 0 else 0
                found.append((len(result), result[place * count : (place + 1) * count]))
            return found

        def of_tokens(batch):
            """Cotangents that follow their tokens."""
            def make(shape):
                each = shape[0] // len(batch)
                wave = torch.arange(tokens * each * math.prod(shape[1:]), dtype=torch.float64).mul(0.7).sin()
                return wave.view(tokens, -1)[batch].reshape(shape)
            return make

        for row in (0, 7, 300):
            alone = None
            for batch in (1, 2, 64, 129, tokens):
                for place in {0, batch // 2, batch - 1}:
                    picked = torch.arange(1, batch + 1) % tokens
                    picked[place] = row
                    given = []
                    for argument, count in zip(arguments, rows, strict=True):
                        if count:
                            argument = argument.view(tokens, count, *argument.shape[1:])[picked.to(gpu.DEVICE)].flatten(0, 1)
                        given.append(argument)
                    mine = of(given, picked, place)
                    alone = alone or [(length, one.clone()) for length, one in mine]
                    for index, ((length, one), (now, here)) in enumerate(zip(alone, mine, strict=True)):
                        # What has the same rows for any batch, as gradients of weights, belongs to no token.
                        if now != length or batch == 1:
                            assert torch.equal(one, here), (entry, index, row, batch, place)


def run_both(module, entry, arguments, cotangent=None):
    """Results that forward shows, then all gradients, for cotangents that depend on nothing but shapes, or for what
    `cotangent` makes of a shape."""
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
            wave = wave if cotangent is None else cotangent(o.shape)
            named[f"d_{spec['name']}"] = wave.to(o.dtype).to(o.device)
    given = [named[a["name"]] for a in backward.inputs]
    gradients = [torch.empty(s, dtype=getattr(torch, d), device=given[0].device) for d, s in backward.results(*given)]
    backward(*given, out=gradients)
    return shown + gradients
