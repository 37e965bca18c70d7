# SPDX-License-Identifier: Apache-2.0
"""A ParallelLinear, token rows to grouped rows, against torch.matmul and a torch loop over experts.

The weights are as users hold them, (E, out, in): packing them is part of each call, as are the
sort of the ids and the allocation of the result. `matmul` is one dense product of as many rows
with one weight: the same FLOPs, without experts, gather or raggedness.
"""

from __future__ import annotations

import dataclasses

import moe_mlir
import torch

from .timing import interleaved, summary


@dataclasses.dataclass(frozen=True)
class Shape:
    tokens: int
    d: int
    n: int
    experts: int
    k: int


SHAPES = {
    "prefill": Shape(2048, 512, 1024, 16, 2),
    "many experts": Shape(4096, 768, 256, 64, 8),
    "decode": Shape(16, 512, 1024, 16, 2),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def loop(x: torch.Tensor, ids: torch.Tensor, w: torch.Tensor, out: torch.Tensor) -> None:
    """Rows of each expert gathered, multiplied, stored one expert after the other."""
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=w.shape[0]).tolist()
    start = 0
    for expert, count in enumerate(counts):
        rows = order[start : start + count]
        torch.matmul(x[rows // ids.shape[1]], w[expert].t(), out=out[start : start + count])
        start += count


def measure(name: str, dtype: str, seconds: float) -> dict[str, object]:
    shape = SHAPES[name]
    generator = torch.Generator().manual_seed(0)

    def random(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator).to(DTYPES[dtype])

    x, w = random(shape.tokens, shape.d), random(shape.experts, shape.n, shape.d)
    ids = torch.stack([torch.randperm(shape.experts, generator=generator)[: shape.k]
                       for _ in range(shape.tokens)])
    layer = moe_mlir.layers.ParallelLinear(d_in=shape.d, d_out=shape.n, experts=shape.experts,
                                           top_k=shape.k, result="grouped", dtype=dtype)
    module = moe_mlir.compile(layer)
    rows = shape.tokens * shape.k
    dense = random(rows, shape.d)
    ours, loops, product = (torch.empty(rows, shape.n, dtype=DTYPES[dtype]) for _ in range(3))

    module(x, ids, w, out=ours)
    loop(x, ids, w, loops)
    worst = (ours.double() - loops.double()).abs().max() / loops.double().abs().max()
    if not worst < (1e-5 if dtype == "f32" else 2**-7):
        raise RuntimeError(f"{name} {dtype}: results differ from torch's by {worst:.2g}")

    with torch.no_grad():
        times = interleaved({
            "moe_mlir": lambda: module(x, ids, w, out=ours),
            "matmul": lambda: torch.matmul(dense, w[0].t(), out=product),
            "loop": lambda: loop(x, ids, w, loops),
        }, seconds)
    ways = {way: summary(t) for way, t in times.items()}
    flops = 2 * rows * shape.d * shape.n
    for way in ways.values():
        way["gflops"] = flops / way["median_ms"] / 1e6
    read = w[ids.unique()].nbytes
    return {
        "shape": dataclasses.asdict(shape), "dtype": dtype, "ways": ways,
        "weight_gb_per_s": read / ways["moe_mlir"]["median_ms"] / 1e6,
        # Medians, and the best calls of each: the second is the quiet machine's.
        "over_matmul": ways["matmul"]["median_ms"] / ways["moe_mlir"]["median_ms"],
        "over_matmul_least": ways["matmul"]["least_ms"] / ways["moe_mlir"]["least_ms"],
        "over_loop": ways["loop"]["median_ms"] / ways["moe_mlir"]["median_ms"],
        "over_loop_least": ways["loop"]["least_ms"] / ways["moe_mlir"]["least_ms"],
    }


def run(seconds: float) -> list[dict[str, object]]:
    results = []
    print(f"{'ParallelLinear':24}{'ms':>9}{'GFLOP/s':>9}{'W GB/s':>8}{'/matmul':>9}{'/loop':>7}{'noise':>7}")
    for name in SHAPES:
        for dtype in DTYPES:
            result = measure(name, dtype, seconds)
            ours = result["ways"]["moe_mlir"]
            print(f"{name + ' ' + dtype:24}{ours['median_ms']:9.3f}{ours['gflops']:9.1f}"
                  f"{result['weight_gb_per_s']:8.1f}{result['over_matmul']:9.2f}"
                  f"{result['over_loop']:7.2f}{ours['noise']:7.0%}", flush=True)
            results.append({"name": name, **result})
    return results
