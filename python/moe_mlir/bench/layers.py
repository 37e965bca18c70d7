# SPDX-License-Identifier: Apache-2.0
"""The gated MLP in each way that is measured. Each has `forward` and `backward` to call, `results`
(the result, then gradients of x, gates, W1, W2), `saved` bytes, and a `step` for its peak."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from typing import Any, Callable

LEAVES = ("x", "gates", "w1", "w2")
# Tests run all of this on the CPU.
TARGET, DEVICE = "sm_90a", "cuda"

# Kernels stay loaded: the profiler may call one by the name of another that was unloaded at its place.
LOADED: list = []


class Ours:
    """The compiled layer, with results and workspace allocated once."""

    def __init__(self, T: int, d: int, n: int, E: int, K: int, tensors: dict[str, Any]):
        import torch

        from .. import compile, layers

        layer = layers.GatedMLP(d_model=d, d_expert=n, experts=E, top_k=K, dtype="bf16", gate_dtype="bf16")
        options = dict(target=TARGET, grad="x,gates,w1,w2")
        with tempfile.TemporaryDirectory() as cache:
            kept, os.environ["MOE_MLIR_CACHE"] = os.environ.get("MOE_MLIR_CACHE"), cache
            start = time.perf_counter()
            module = compile(layer.text, **options)
            self.cold = time.perf_counter() - start
            del module
            gc.collect()
            start = time.perf_counter()
            module = compile(layer.text, **options)
            self.warm = time.perf_counter() - start
            wide = compile(layer.text, accumulate="w1,w2", accumulate_f32=True, **options)
            LOADED.extend((module, wide))
            if kept is None:
                del os.environ["MOE_MLIR_CACHE"]
            else:
                os.environ["MOE_MLIR_CACHE"] = kept
        self.forward, named = self._bind(module["forward"], tensors)
        self.saved = sum(named[o["name"]].nbytes for o in module["forward"].outputs
                         if o.get("kind") in ("saved", "table"))
        self.backward, gradients = self._bind(module["backward"], {**tensors, **named})
        self.results = [named["out"], *gradients.values()]
        self.buffers = {f"d_{name}": torch.zeros_like(tensors[name], dtype=torch.float32) for name in ("w1", "w2")}
        self.backward_f32, _ = self._bind(wide["backward"], {**tensors, **named, **self.buffers})

        def step() -> Any:
            found = dict(zip((o["name"] for o in module["forward"].outputs),
                             module["forward"](*(tensors[a["name"]] for a in module["forward"].inputs))))
            given = {**tensors, **found}
            return found, module["backward"](*(given[a["name"]] for a in module["backward"].inputs))

        self.step = step

    def backward_add(self) -> None:
        """The gradient in bf16, then added to f32 buffers."""
        self.backward()
        self.buffers["d_w1"].add_(self.results[3])
        self.buffers["d_w2"].add_(self.results[4])

    @staticmethod
    def _bind(entry: Any, tensors: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
        import torch

        given = [tensors[a["name"]] for a in (*entry.inputs, *entry.inouts)]
        outs = [torch.empty(shape, dtype=getattr(torch, dtype), device=DEVICE)
                for dtype, shape in entry.results(*given)]
        size = entry.workspace_size(**entry._symbols(given))
        workspace = torch.empty(size, dtype=torch.uint8, device=DEVICE)
        return (lambda: entry(*given, out=outs, workspace=workspace),
                dict(zip((o["name"] for o in entry.outputs), outs)))


class Peer:
    """A differentiable function of x, gates, w1, w2 under torch.autograd. Where a backward cannot
    be repeated (`repeats` is false), its time is that of a step less that of forward."""

    def __init__(self, layer: Callable[..., Any], tensors: dict[str, Any]):
        import torch

        self.layer, self.cotangent = layer, tensors["d_out"]
        self.leaves = [tensors[name].detach().clone().requires_grad_() for name in LEAVES]
        layer(*self.leaves)  # compiled and tuned
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        self.out = layer(*self.leaves)
        self.saved = torch.cuda.memory_allocated() - before - self.out.nbytes
        self.results = [self.out, *self._gradients(self.out)]
        try:
            self.backward()
            self.repeats = True
        except RuntimeError:  # it writes over what forward kept
            self.repeats = False
        self.buffers = [torch.zeros_like(w, dtype=torch.float32) for w in self.leaves[2:]]

    def _gradients(self, out: Any) -> Any:
        import torch

        return torch.autograd.grad(out, self.leaves, self.cotangent, retain_graph=True)

    def forward(self) -> Any:
        return self.layer(*self.leaves)

    def backward(self) -> Any:
        return self._gradients(self.out)

    def backward_add(self) -> None:
        """The gradient in bf16, then added to f32 buffers."""
        for buffer, gradient in zip(self.buffers, self.backward()[2:]):
            buffer.add_(gradient)

    def step(self) -> Any:
        out = self.layer(*self.leaves)
        return out, self._gradients(out)


def torch_layer(tensors: dict[str, Any], E: int) -> Callable[..., Any]:
    """Gather, grouped_mm, elementwise under torch.compile; the order is given."""
    import torch

    ids = tensors["ids"]
    T, K = ids.shape
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(order.numel(), device=DEVICE)
    ends = torch.cumsum(torch.bincount(flat, minlength=E), 0).int()
    token = order // K

    @torch.compile(dynamic=False)
    def layer(x, gates, w1, w2):
        n = w2.shape[2]
        h = torch._grouped_mm(x[token], w1.transpose(1, 2), offs=ends)
        a = torch.nn.functional.silu(h[:, :n]) * h[:, n:]
        y = torch._grouped_mm(a, w2.transpose(1, 2), offs=ends)
        return (y[position].view(T, K, -1) * gates[..., None]).sum(1)

    return layer


def scattermoe_layer(tensors: dict[str, Any], E: int) -> Callable[..., Any]:
    """scattermoe.mlp.GLUMLP's forward on given weights; it sorts in each call."""
    import torch
    from scattermoe import flatten_sort_count, parallel_linear

    ids = tensors["ids"]

    def layer(x, gates, w1, w2):
        by_expert = flatten_sort_count(ids, num_experts=E)
        gate, up = parallel_linear(x, w1.permute(0, 2, 1), ids.shape[1], *by_expert, grouped_out=True).chunk(2, dim=-1)
        return parallel_linear(torch.nn.functional.silu(gate) * up, w2.permute(0, 2, 1), 1, *by_expert,
                               grouped_in=True, gates=gates)

    return layer


def sonic_layer(tensors: dict[str, Any], E: int) -> Callable[..., Any]:
    """sonicmoe's layer for K routes a token (moe_TC_softmax_topk_layer of 0.1.2) without its router, for ids that
    are given; it sorts in each call. Its gate and up columns alternate, so they are interleaved before, outside of
    what is timed."""
    import torch
    from sonicmoe.enums import ActivationType
    from sonicmoe.functional import TC_topk_router_metadata_triton, _DownProjection, _UpProjection

    ids = tensors["ids"].int()
    T, K = ids.shape

    def layer(x, gates, w1, w2):
        def i32(count):
            return torch.empty(count, dtype=torch.int32, device=DEVICE)

        offsets, token, slot, place = i32(E + 1), i32(T * K), i32(T * K), i32(T * K)
        TC_topk_router_metadata_triton(ids, E, i32(E), offsets, token, slot, place)
        a, h = _UpProjection.apply(x, w1.permute(1, 2, 0), None, offsets, T * K, K, token, slot, place, None, False,
                                   ActivationType.SWIGLU, False)
        return _DownProjection.apply(a, h, w2.permute(1, 2, 0), None, gates.float(), offsets, T, K, token, slot, place,
                                     None, False, ActivationType.SWIGLU)

    return layer


def interleaved(w1: Any) -> Any:
    """(E, gate and up, d) with gate and up rows in turn."""
    return w1.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2).contiguous()


def separated(w1: Any) -> Any:
    return w1.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)


PEERS = {"torch": torch_layer, "scattermoe": scattermoe_layer, "sonicmoe": sonic_layer}


def make_peer(name: str, tensors: dict[str, Any], E: int) -> Peer:
    """The peer with its results in our layout.

    Raises:
        whatever it raises: ImportError where it is not installed.
    """
    given = dict(tensors, w1=interleaved(tensors["w1"])) if name == "sonicmoe" else tensors
    peer = Peer(PEERS[name](given, E), given)
    if name == "sonicmoe":
        peer.results[3] = separated(peer.results[3])
    return peer
