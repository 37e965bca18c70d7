# SPDX-License-Identifier: Apache-2.0
"""A layer of each kind, and arguments for its entry points."""

import torch
from moe_mlir import layers

E, K, D, N = 6, 2, 32, 24


def make_layers(dtype, d=D, n=N):
    """By name. Widths are multiples of 8, so that every kernel has its fast form."""
    common = dict(experts=E, top_k=K, dtype=dtype)
    gate = dict(common, gate_dtype="f64" if dtype == "f64" else "f32")
    adapter = layers.Adapter(rank=8)
    return {
        "mlp": layers.MLP(d_model=d, d_expert=n, activation="relu", **gate),
        "gated": layers.GatedMLP(d_model=d, d_expert=n, **gate),
        "interleaved": layers.GatedMLP(d_model=d, d_expert=n, columns="interleave", bias=True, activation="gelu", **gate),
        "separate": layers.GatedMLP(d_model=d, d_expert=n, columns="separate", **gate),
        "in_out": layers.GatedMLP(d_model=d, d_expert=n, weight_layout="in_out", **gate),
        "gate_on_input": layers.GatedMLP(d_model=d, d_expert=n, gate_on="input", **gate),
        "adapter": layers.GatedMLP(d_model=d, d_expert=n, adapter=adapter, **gate),
        "shared": layers.GatedMLP(d_model=d, d_expert=n, d_shared=16, **gate),
        "routed": layers.GatedMLP(d_model=d, d_expert=n, routing=layers.Routing(), **gate),
        "linear": layers.ParallelLinear(d_in=d, d_out=n, bias=True, **common),
        "attention": layers.MixtureOfAttention(d_model=d, head_dim=16, heads=1, **gate),
    }


def arguments_of(layer, entry, tokens, seed=0):
    """Random tensors for an entry point; ids with a sentinel."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for argument in layer.inputs(entry):
        shape = argument.shape(T=tokens)
        dtype = getattr(torch, argument.numpy_dtype)
        if dtype.is_floating_point:
            scale = shape[-1] ** -0.5 if len(shape) == 3 else 1.0
            found.append((torch.randn(shape, generator=generator) * scale).to(dtype))
        elif dtype == torch.bool:
            found.append(torch.ones(shape, dtype=dtype))
        else:
            ids = torch.rand(shape[0], E, generator=generator).argsort(1)[:, : shape[1]].to(dtype).contiguous()
            if tokens > 3:
                ids[3, 0] = E
            found.append(ids)
    return found
