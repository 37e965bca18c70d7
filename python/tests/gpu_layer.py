# SPDX-License-Identifier: Apache-2.0
"""A gated MLP on the GPU and in float64, for tests."""

import functools

import gpu
import moe_mlir
import torch
from oracle import make_ids

NAMES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
ARGUMENTS = ("x", "gates", "w1", "w2")


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
    """x, ids, gates, w1, w2 and a cotangent, on the device."""
    generator = torch.Generator().manual_seed(tokens + d)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=generator) * scale).to(dtype).to(gpu.DEVICE)

    ids = make_ids(kind, tokens, k, experts, torch.int64).to(gpu.DEVICE)
    return (
        normal(tokens, d), ids, torch.rand(tokens, k, generator=generator).to(dtype).to(gpu.DEVICE),
        normal(experts, 2 * n, d, scale=d**-0.5), normal(experts, d, n, scale=n**-0.5),
    ), normal(tokens, d)


# A capture must not compile, and tests of one layer share what is loaded.
@functools.lru_cache(maxsize=None)
def compiled(k, experts, d, n, dtype, **options):
    layer = moe_mlir.layers.GatedMLP(
        d_model=d, d_expert=n, experts=experts, top_k=k, dtype=NAMES[dtype], gate_dtype=NAMES[dtype]
    )
    return moe_mlir.compile(layer.text, target=gpu.TARGET, grad="x,gates,w1,w2", **options)


def close(actual, exact, dtype, what):
    """Within `slack` roundings of the size, as a whole and row by row; roundings of the layer's buffers add up."""
    assert torch.isfinite(actual).all(), what
    if actual.numel() == 0:
        return
    # f32 has nothing wider to sum in.
    slack = (40.0 if dtype == torch.float32 else 6.0) * torch.finfo(dtype).eps
    difference = actual.double() - exact
    error, size = difference.norm(), exact.norm()
    assert error <= slack * size + 1e-30, (what, float(error), float(size))
    # A row that is wrong alone is lost in the whole. A short row has few errors to average over.
    rows, wanted = (t.reshape(-1, t.shape[-1]) for t in (difference, exact))
    typical = size / len(rows) ** 0.5
    bound = 3 * slack * (wanted.norm(dim=1) + typical) + 1e-30
    worst = int((rows.norm(dim=1) / bound).argmax())
    assert rows[worst].norm() <= bound[worst], (what, f"row {worst}", float(rows[worst].norm()), float(bound[worst]))


def backward_arguments(module, arguments, outs, cotangent, buffers=None):
    """What backward takes, by name, in its order."""
    named = dict(zip((a["name"] for a in module["forward"].inputs), arguments))
    named.update(zip((o["name"] for o in module["forward"].outputs), outs))
    named.update(buffers or {})
    named["d_out"] = cotangent
    return [named[a["name"]] for a in module["backward"]._arguments]


def backward_of(module, arguments, cotangent, buffers=None):
    """The result, and the gradients by name; `buffers` are those that backward adds to."""
    outs = gpu.call(module["forward"], *arguments)
    given = backward_arguments(module, arguments, outs, cotangent, buffers)
    return outs[0], dict(zip((o["name"] for o in module["backward"].outputs), gpu.call(module["backward"], *given)))
