# SPDX-License-Identifier: Apache-2.0
"""Training with compiled layers is training in PyTorch: losses and weights."""

import dataclasses

import pytest
import torch
from layers_reference import mlp as plain
from moe_mlir.layers import MLP, GatedMLP, Routing
from moe_mlir.torch import MoE, Operator
from oracle import random
from test_layers import EPS

SIZES = dict(d_model=12, d_expert=8, experts=5, top_k=2)
LAYERS = {
    "swiglu": lambda **o: GatedMLP(**SIZES, routing=Routing.mixtral(), **o),
    "gpt_oss": lambda **o: GatedMLP(**SIZES, routing=Routing.gpt_oss(), bias=True, limit=7.0, alpha=1.702,
                                    up_offset=1.0, columns="interleave", weight_layout="in_out", **o),
    "shared": lambda **o: MLP(**SIZES, routing=Routing(score="sigmoid", normalize=True), d_shared=6,
                              activation="gelu_tanh", **o),
}
TORCH = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}


class Plain(torch.nn.Module):
    """The layer's operator, in PyTorch, with its signature."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.names = layer, [a.name for a in layer.inputs()]

    def forward(self, *arguments):
        out = plain(self.layer, dict(zip(self.names, arguments)))[0]
        return out.to(TORCH[self.layer.dtype])


def train(layer, operator, steps=12, rate=0.3):
    """SGD on a router and the experts: the losses, and the weights at the end."""
    names = [a.name for a in layer.inputs()]
    weights = {a.name: random(*a.shape(T=0), seed=n).to(TORCH[layer.dtype]) for n, a in enumerate(layer.inputs())
               if a.name not in ("x", "logits")}
    for name, weight in weights.items():
        axis = 1 if layer.weight_layout == "in_out" else 2
        if weight.dim() == 3:
            weight /= weight.shape[axis] ** 0.5
    weights["router"] = random(SIZES["d_model"], SIZES["experts"], seed=90).to(TORCH[layer.dtype])
    for weight in weights.values():
        weight.requires_grad_()
    logits_dtype = TORCH[layer.routing.logits_dtype]
    losses = []
    for step in range(steps):
        x = random(31, SIZES["d_model"], seed=300 + step % 3).to(TORCH[layer.dtype])
        target = torch.sin(x.double() * 2)
        given = {**weights, "x": x, "logits": (x @ weights["router"]).to(logits_dtype)}
        loss = (operator(*(given[n] for n in names)).double() - target).square().mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), gradients):
                weight -= rate * gradient
    return torch.tensor(losses, dtype=torch.float64), {n: w.detach().double() for n, w in weights.items()}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16"])
def test_losses_and_weights_are_pytorchs(name, dtype):
    def layer(dtype):
        wide = "f64" if dtype == "f64" else "f32"
        made = LAYERS[name](dtype=dtype, gate_dtype=wide)
        return dataclasses.replace(made, routing=dataclasses.replace(made.routing, logits_dtype=wide))

    losses, weights = train(layer(dtype), Operator(layer(dtype)))
    exact_losses, exact_weights = train(layer("f64"), Plain(layer("f64")))
    assert exact_losses[-1] < 0.9 * exact_losses[0]  # it does learn
    plain_losses, plain_weights = train(layer(dtype), Plain(layer(dtype)))
    # Each step rounds; PyTorch's own distance says how far that leads.
    rounding = EPS[TORCH[dtype]] * len(losses)

    def distance(values, exact):
        return (values - exact).square().mean().sqrt().item()

    scale = exact_losses.square().mean().sqrt().item()
    assert distance(losses, exact_losses) <= 1.1 * distance(plain_losses, exact_losses) + rounding * scale
    for name, exact in exact_weights.items():
        scale = exact.square().mean().sqrt().item()
        allowed = 1.1 * distance(plain_weights[name], exact) + rounding * scale
        assert distance(weights[name], exact) <= allowed, name


def test_a_module_and_an_optimizer():
    """nn.Module, Adam, weight decay, clipping, frozen parameters: loss falls."""
    torch.manual_seed(0)
    layer = GatedMLP(**SIZES)
    model = MoE(layer)
    model.w2.requires_grad_(False)
    frozen = model.w2.clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.03)
    x = torch.randn(64, SIZES["d_model"])
    ids = torch.stack([torch.randperm(SIZES["experts"])[:2] for _ in x])
    gates = torch.full(ids.shape, 0.5)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x, ids, gates) - x).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert torch.equal(model.w2, frozen) and model.w2.grad is None
