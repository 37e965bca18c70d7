# SPDX-License-Identifier: Apache-2.0
"""A gated MLP of experts forward and backward: fused, unfused, op by op, and a torch loop over experts.

Op by op is the layer as it is written: one kernel an op, each op's inputs kept for its gradient, and
that gradient as its definition gives it: gate * dO is written as rows, a gate's gradient is <dO, Y>
(simplify=false, fuse=false, policy=save-all). Unfused has the compiler's algebra (d-gate from rows of
A) and no fusion. Every way gives the gradients of x, gates and both weights. `saved` are the bytes
that forward keeps for backward beside its arguments; `peak` is the most that is allocated at a time
during a forward and a backward, beside the arguments.
"""

from __future__ import annotations

import dataclasses
from typing import Callable

import moe_mlir
import moe_mlir.torch
import torch
from moe_mlir import _arrays

from .timing import interleaved, summary

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Shape:
    tokens: int = 2048
    d: int = 512
    n: int = 256
    experts: int = 32
    k: int = 4


def loop(x: torch.Tensor, ids: torch.Tensor, gates: torch.Tensor, w1: torch.Tensor,
         w2: torch.Tensor) -> torch.Tensor:
    """As models are written in PyTorch: gather, two products, weigh, add, for each expert."""
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=w1.shape[0]).tolist()
    out, weights, start = torch.zeros_like(x), gates.reshape(-1, 1), 0
    for expert, count in enumerate(counts):
        slots = order[start : start + count]
        tokens = slots // ids.shape[1]
        gate, up = (x[tokens] @ w1[expert].t()).chunk(2, -1)
        y = (torch.nn.functional.silu(gate) * up) @ w2[expert].t()
        out.index_add_(0, tokens, (y * weights[slots]).to(x.dtype))
        start += count
    return out


def saved_bytes(call: Callable[[], torch.Tensor], arguments: list[torch.Tensor]) -> int:
    """Bytes of the storages that autograd keeps, the arguments' apart."""
    known = {a.untyped_storage().data_ptr() for a in arguments}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = call()
        total = sum(found.values())
        del out
    return total


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that torch's allocator has given out at a time during a call and its workspace."""
    _arrays.forget_workspace()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    now = most = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measure(dtype: str, seconds: float, shape: Shape = Shape()) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)

    def random(*sizes: int, scale: float = 1.0, to: torch.dtype = DTYPES[dtype]) -> torch.Tensor:
        return (torch.randn(*sizes, generator=generator) * scale).to(to).requires_grad_()

    x = random(shape.tokens, shape.d)
    w1 = random(shape.experts, 2 * shape.n, shape.d, scale=shape.d**-0.5)
    w2 = random(shape.experts, shape.d, shape.n, scale=shape.n**-0.5)
    gates = random(shape.tokens, shape.k, scale=0.25, to=torch.float32)
    ids = torch.stack([torch.randperm(shape.experts, generator=generator)[: shape.k]
                       for _ in range(shape.tokens)])
    cotangent = random(shape.tokens, shape.d).detach()
    arguments = [x, ids, gates, w1, w2]
    leaves = [x, gates, w1, w2]

    layer = moe_mlir.layers.GatedMLP(d_model=shape.d, d_expert=shape.n, experts=shape.experts,
                                     top_k=shape.k, dtype=dtype)
    ways: dict[str, Callable[..., torch.Tensor]] = {
        "fused": moe_mlir.torch.Operator(layer),
        "unfused": moe_mlir.torch.Operator(layer, fuse=False, policy="save-all"),
        "op by op": moe_mlir.torch.Operator(layer, fuse=False, policy="save-all", simplify=False),
        "loop": loop,
    }

    def step(way: str) -> tuple[torch.Tensor, ...]:
        out = ways[way](*arguments)
        return (out, *torch.autograd.grad(out, leaves, cotangent))

    reference = step("loop")
    for way in ("fused", "unfused", "op by op"):
        for name, actual, wanted in zip(("out", "dx", "dgates", "dw1", "dw2"), step(way), reference):
            worst = (actual.double() - wanted.double()).abs().max() / wanted.double().abs().max()
            if not worst < (1e-4 if dtype == "f32" else 2**-5):
                raise RuntimeError(f"{way} {dtype}: {name} differs from torch's by {worst:.2g}")
    del reference

    with torch.no_grad():
        forward = interleaved({way: lambda way=way: ways[way](*arguments) for way in ways}, seconds / 3)
    times = interleaved({way: lambda way=way: step(way) for way in ways}, seconds)
    result: dict[str, object] = {"shape": dataclasses.asdict(shape), "dtype": dtype, "ways": {}}
    for way in ways:
        result["ways"][way] = {
            "step": summary(times[way]), "inference": summary(forward[way]),
            "saved_bytes": saved_bytes(lambda: ways[way](*arguments), arguments),
            "peak_bytes": peak_bytes(lambda: step(way)),
        }
    return result


def run(seconds: float) -> list[dict[str, object]]:
    results = []
    print(f"{'training, gated MLP':24}{'step ms':>9}{'noise':>7}{'fused is':>10}{'inference ms':>14}"
          f"{'fused is':>10}{'saved MB':>10}{'peak MB':>9}")
    for dtype in DTYPES:
        result = measure(dtype, seconds)
        ways = result["ways"]
        for way, of in ways.items():
            step, inference = of["step"], of["inference"]
            print(f"{dtype + ' ' + way:24}{step['median_ms']:9.2f}{step['noise']:7.0%}"
                  f"{step['median_ms'] / ways['fused']['step']['median_ms']:9.2f}x"
                  f"{inference['median_ms']:14.2f}"
                  f"{inference['median_ms'] / ways['fused']['inference']['median_ms']:9.2f}x"
                  f"{of['saved_bytes'] / 1e6:10.2f}{of['peak_bytes'] / 1e6:9.1f}", flush=True)
        results.append(result)
    return results
