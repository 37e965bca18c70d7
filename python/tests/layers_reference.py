# SPDX-License-Identifier: Apache-2.0
"""The layers of moe_mlir restated in PyTorch, and arguments for them.

Slot by slot, in float64, with none of the compiler's ideas: no grouping, no
fusion. Routing is that of the models' own code in test_interpreter_route.
"""

import dataclasses

import torch
from oracle import Slots, make_ids, random
from moe_mlir import layers
from torch.nn import functional as F

ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}


def route(routing, arguments, top_k):
    """Gates and ids (T, K), restated for every attribute but groups and capacity."""
    logits = arguments["logits"]
    experts = logits.shape[1]
    score = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "identity": lambda x: x}[routing.score]
    key = score(logits) if routing.order == "score_then_topk" else logits
    if routing.replay:
        ids = arguments["replay"].long()
    else:
        ids = (key + arguments["bias"] if routing.bias else key).topk(top_k).indices
    valid = (ids >= 0) & (ids < experts)
    if routing.order == "score_then_topk":
        gates = score(logits).gather(1, ids.clamp(0, experts - 1))
    else:
        chosen = logits.gather(1, ids.clamp(0, experts - 1))
        gates = score(chosen.masked_fill(~valid, -torch.inf) if routing.score == "softmax" else chosen)
    gates = torch.where(valid, gates, 0.0)
    if routing.normalize:
        gates = gates / (gates.sum(-1, keepdim=True) + routing.eps)
    gates = gates * routing.scale
    if routing.mask:
        masked = ~arguments["mask"][:, None]
        gates, ids = gates.masked_fill(masked, 0.0), ids.masked_fill(masked, experts)
    return gates.nan_to_num(0.0), ids


def linear(layer, rows, slots, arguments, weight, bias):
    """Slot rows (T*K, in) to slot rows (T*K, out); sentinels' are not defined."""
    expert = slots.expert.clamp(max=slots.experts - 1)
    out_in = layer.weight_layout == "out_in"

    def times(rows, name):
        w = arguments[name] if out_in else arguments[name].mT
        return torch.einsum("soi,si->so", w[expert], rows)

    y = times(rows, weight)
    if bias in arguments:
        y = y + arguments[bias][expert]
    if f"{weight}_a" in arguments:
        y = y + layer.adapter.scale * times(times(rows, f"{weight}_a"), f"{weight}_b")
    return y


def activate(layer, h):
    """The activation; h is one tensor, or gate and up in the layer's order."""
    act = ACTIVATIONS[layer.activation]
    if not isinstance(layer, layers.GatedMLP):
        return act(h[0])
    if layer.columns == "concat":
        h = h[0].chunk(2, -1)
    elif layer.columns == "interleave":
        h = (h[0][:, 0::2], h[0][:, 1::2])
    gate, up = h if layer.gate_first else reversed(h)
    if layer.limit is not None:
        gate, up = gate.clamp(max=layer.limit), up.clamp(-layer.limit, layer.limit)
    gate = gate * torch.sigmoid(layer.alpha * gate) if layer.alpha != 1.0 else act(gate)
    return gate * (up + layer.up_offset)


def experts_of(layer, rows, slots, arguments, prefix=""):
    separate = getattr(layer, "columns", "") == "separate"
    names = ["w1"] if not separate else ["w_gate", "w_up"] if layer.gate_first else ["w_up", "w_gate"]
    h = [linear(layer, rows, slots, arguments, prefix + n, prefix + n.replace("w", "b", 1)) for n in names]
    return linear(layer, activate(layer, h), slots, arguments, f"{prefix}w2", f"{prefix}b2")


def mlp(layer, arguments):
    x = arguments["x"]
    if layer.routing:
        gates, ids = route(layer.routing, arguments, layer.top_k)
    else:
        gates, ids = arguments.get("gates"), arguments["ids"]
    slots = Slots(ids, layer.experts)
    rows = slots.by_slot(x, "token")
    gate = gates.reshape(-1, 1) if gates is not None else 1.0
    y = experts_of(layer, rows * gate if layer.gate_on == "input" else rows, slots, arguments)
    y = slots.by_slot(y * gate if layer.gate_on == "output" else y, "slot")
    out = y.view(len(x), layer.top_k, layer.d_model).sum(1)
    if layer.d_shared:
        everyone = Slots(torch.zeros(len(x), 1, dtype=torch.int64), 1)
        out = out + experts_of(layer, x, everyone, arguments, "shared_")
    extra = {"gates": gates, "ids": ids}
    return [out, *(extra[name] for name in (layer.routing.returns if layer.routing else ()))]


def parallel_linear(layer, arguments):
    slots = Slots(arguments["ids"], layer.experts)
    y = linear(layer, slots.by_slot(arguments["x"], layer.source), slots, arguments, "w", "b")
    return [slots.in_order(y, layer.result)]


def attention_query(layer, arguments):
    slots = Slots(arguments["ids"], layer.experts)
    y = linear(layer, slots.by_slot(arguments["x"], "token"), slots, arguments, "wq", "bq")
    return [slots.by_slot(y, "slot")]


def attention_output(layer, arguments):
    slots = Slots(arguments["ids"], layer.experts)
    y = slots.by_slot(linear(layer, arguments["o"], slots, arguments, "wo", "bo"), "slot")
    gated = y.view(len(arguments["gates"]), layer.top_k, layer.d_model) * arguments["gates"][:, :, None]
    return [gated.sum(1)]


def router(layer, arguments):
    gates, ids = route(layer.routing, arguments, layer.top_k)
    logits = arguments["logits"]
    scores = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "identity": lambda x: x}
    extra = {"scores": scores[layer.routing.score](logits), "logsumexp": logits.logsumexp(-1)}
    return [gates, ids, *(extra[name] for name in ("scores", "logsumexp") if name in layer.routing.returns)]


def reference(layer, entry, arguments):
    """The results of an entry point in float64, NaN where they are unspecified.

    `arguments` are tensors by name, of any dtype."""
    wide = {n: a.double() if a.is_floating_point() else a for n, a in arguments.items()}
    function = {("forward", layers.ParallelLinear): parallel_linear, ("forward", layers.Router): router,
                ("query", layers.MixtureOfAttention): attention_query,
                ("output", layers.MixtureOfAttention): attention_output}.get((entry, type(layer)), mlp)
    return function(layer, wide)


def arguments_of(layer, entry, tokens, kind="sentinels"):
    """Unit-scale random arguments by name, in order; `kind` as in make_ids."""
    ids = make_ids(kind, tokens, layer.top_k, layer.experts)
    given = {}
    for seed, argument in enumerate(layer.inputs(entry)):
        dtype, shape = getattr(torch, argument.numpy_dtype), argument.shape(T=tokens)
        if argument.name in ("ids", "replay"):
            value = ids
        elif argument.name == "mask":
            value = torch.arange(tokens) % 3 != 1
        elif argument.name == "gates":
            value = random(*shape, seed=seed).sigmoid()
        else:
            value = random(*shape, seed=seed)
            if len(shape) == 3:  # weights: outputs then are of unit scale too
                value = value / shape[2 if layer_is_out_in(layer) else 1] ** 0.5
        given[argument.name] = value.to(dtype)
    source = getattr(layer, "source", None)
    if source in ("slot", "grouped"):
        given["x"] = Slots(ids, layer.experts).poison(given["x"], source)
    if "o" in given:
        given["o"] = Slots(ids, layer.experts).poison(given["o"], "slot")
    return given


def layer_is_out_in(layer):
    return getattr(layer, "weight_layout", "out_in") == "out_in"


def describe(layer):
    """A layer's options that are not the defaults, as the name of a test."""
    parts = [type(layer).__name__]
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if field.default is dataclasses.MISSING or value == field.default:
            continue
        if dataclasses.is_dataclass(value):
            changed = [f"{f.name}={getattr(value, f.name)}" for f in dataclasses.fields(value)
                       if getattr(value, f.name) != f.default]
            value = "(" + ",".join(changed) + ")"
        parts.append(f"{field.name}={value}")
    return "-".join(parts)
