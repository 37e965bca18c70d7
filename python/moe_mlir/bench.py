# SPDX-License-Identifier: Apache-2.0
"""Gated MLP layers on a GPU against PyTorch, forward and backward.

    python -m moe_mlir.bench                       # the twelve configurations
    python -m moe_mlir.bench 40960,768,256,128,8   # T, d, n, E, K
    python -m moe_mlir.bench --routing zipf --out results/

The peer is what a PyTorch user writes: rows gathered, ``torch._grouped_mm``,
elementwise math and the sum over K under ``torch.compile``. It is given the
sorted order of the slots; ours sorts them in each call. Variants run in turn,
in bursts with idle gaps, on unit-scale random data, in one process, which also
measures the rates that the roofline is made of: dense bf16 matrix product and
device copy. Writes bench.json and bench.png, and prints a table. A configuration whose
results are not torch's to rounding is an error, not a time.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any, Callable

CONFIGURATIONS = [
    (40960, 768, 256, 128, 8), (40960, 768, 512, 64, 4), (40960, 768, 1024, 32, 2),
    (24576, 1536, 256, 128, 8), (24576, 1536, 512, 64, 4), (24576, 1536, 1024, 32, 2),
    (32768, 4096, 256, 256, 16), (32768, 4096, 512, 128, 8), (32768, 4096, 1024, 64, 4),
    (32768, 4096, 512, 256, 16), (32768, 4096, 1024, 128, 8), (32768, 4096, 2048, 64, 4),
]
GAP_SECONDS = 0.08
BURST = 4


def roofline(T: int, d: int, n: int, E: int, K: int, gathered: int) -> dict[str, dict[str, tuple[float, float]]]:
    """FLOPs and bytes of each kernel; a gathered row is counted once a token
    (``gathered=T``, strict) or once a slot (``gathered=T*K``, loose)."""
    R, b = T * K, 2
    x, w1, w2, h, a, y, o = (gathered * d * b, E * 2 * n * d * b, E * n * d * b, R * 2 * n * b, R * n * b,
                             R * d * b, T * d * b)
    return {
        "forward": {"up": (4 * R * n * d, x + w1 + h + a), "down": (2 * R * n * d, a + w2 + y),
                    "combine": (0, y + o)},
        "backward": {"d-up": (2 * R * n * d, x + w2 + h + h + a), "d-W2": (2 * R * n * d, x + a + w2),
                     "d-W1": (4 * R * n * d, x + h + w1), "d-X": (4 * R * n * d, h + w1 + y),
                     "combine": (0, y + o)},
    }


def seconds(kernels: dict[str, tuple[float, float]], flops: float, copy: float) -> float:
    """Time of kernels that each reach their own limit."""
    return sum(max(f / flops, b / copy) for f, b in kernels.values())


def route(kind: str, T: int, E: int, K: int, generator: Any) -> Any:
    """ids (T, K), distinct within a token."""
    import torch

    weight = torch.ones(E, device="cuda")
    if kind == "zipf":
        weight = torch.arange(1, E + 1, device="cuda").float() ** -1.2
    elif kind == "hot":  # one expert with 60 % of the tokens
        weight[0] = 1.5 * (E - 1) / K
    elif kind == "half-empty":
        weight[E // 2:] = 0
    # The K largest of log(weight) + Gumbel noise: without replacement.
    noise = -torch.log(-torch.log(torch.rand(T, E, device="cuda", generator=generator).clamp_min(1e-20)))
    return (torch.log(weight) + noise).topk(K).indices


class Timer:
    """Milliseconds of calls, in turns."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def burst(self, name: str, call: Callable[[], Any]) -> None:
        import torch

        time.sleep(GAP_SECONDS)
        call()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(BURST):
            call()
        end.record()
        torch.cuda.synchronize()
        self.times.setdefault(name, []).append(start.elapsed_time(end) / BURST)

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])

    def spread(self, name: str) -> float:
        """(largest - smallest) / median"""
        return (max(self.times[name]) - min(self.times[name])) / self.median(name)


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call as a CUDA graph."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def kernel_times(call: Callable[[], Any]) -> dict[str, float]:
    """Microseconds of each kernel of one call, in the order they run."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as run:
        call()
        torch.cuda.synchronize()
    found: dict[str, float] = {}
    for event in sorted(run.events(), key=lambda e: e.time_range.start):
        if event.device_type == torch.autograd.DeviceType.CUDA:
            found[event.name] = found.get(event.name, 0.0) + event.device_time_total
    return found


class Ours:
    """The compiled layer, with results and workspace allocated once."""

    def __init__(self, T: int, d: int, n: int, E: int, K: int, tensors: dict[str, Any]):
        import torch

        from . import compile, layers

        layer = layers.GatedMLP(d_model=d, d_expert=n, experts=E, top_k=K, dtype="bf16", gate_dtype="bf16")
        options = dict(target="sm_90a", grad="x,gates,w1,w2")
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
            if kept is None:
                del os.environ["MOE_MLIR_CACHE"]
            else:
                os.environ["MOE_MLIR_CACHE"] = kept
        self.forward, named = self._bind(module["forward"], tensors)
        self.out = named["out"]
        self.saved = sum(named[o["name"]].nbytes for o in module["forward"].outputs
                         if o.get("kind") in ("saved", "table"))
        self.backward, self.gradients = self._bind(module["backward"],
                                                   {**tensors, **named, "d_out": tensors["d_out"]})
        torch.cuda.synchronize()

    @staticmethod
    def _bind(entry: Any, tensors: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
        import torch

        given = [tensors[a["name"]] for a in entry.inputs]
        outs = [torch.empty(shape, dtype=getattr(torch, dtype), device="cuda")
                for dtype, shape in entry.results(*given)]
        size = entry.workspace_size(**entry._symbols(given))
        workspace = torch.empty(size, dtype=torch.uint8, device="cuda")
        return (lambda: entry(*given, out=outs, workspace=workspace),
                dict(zip((o["name"] for o in entry.outputs), outs)))


class Torch:
    """Gather, grouped_mm, elementwise under torch.compile; the order is given."""

    def __init__(self, tensors: dict[str, Any], E: int):
        import torch

        ids = tensors["ids"]
        T, K = ids.shape
        flat = ids.reshape(-1)
        order = torch.argsort(flat, stable=True)
        position = torch.empty_like(order)
        position[order] = torch.arange(order.numel(), device="cuda")
        ends = torch.cumsum(torch.bincount(flat, minlength=E), 0).int()
        token = order // K

        @torch.compile(dynamic=False)
        def layer(x, gates, w1, w2):
            n = w2.shape[2]
            h = torch._grouped_mm(x[token], w1.transpose(1, 2), offs=ends)
            a = torch.nn.functional.silu(h[:, :n]) * h[:, n:]
            y = torch._grouped_mm(a, w2.transpose(1, 2), offs=ends)
            return (y[position].view(T, K, -1) * gates[..., None]).sum(1)

        self.leaves = [tensors[name].detach().clone().requires_grad_() for name in ("x", "gates", "w1", "w2")]
        before = torch.cuda.memory_allocated()
        self.out = layer(*self.leaves)
        self.saved = torch.cuda.memory_allocated() - before - self.out.nbytes
        self.forward = lambda: layer(*self.leaves)
        cotangent = tensors["d_out"]
        self.backward = lambda: torch.autograd.grad(self.out, self.leaves, cotangent, retain_graph=True)


def run(T: int, d: int, n: int, E: int, K: int, rounds: int, routing: str) -> dict[str, Any]:
    """One configuration: medians, spreads, rates, memory."""
    import torch

    torch.cuda.empty_cache()
    torch._dynamo.reset()
    generator = torch.Generator("cuda").manual_seed(T + n)

    def normal(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape, device="cuda", generator=generator, dtype=torch.bfloat16) * scale)

    tensors = {
        "x": normal(T, d), "ids": route(routing, T, E, K, generator),
        "gates": torch.rand(T, K, device="cuda", generator=generator).bfloat16(),
        "w1": normal(E, 2 * n, d, scale=d**-0.5), "w2": normal(E, d, n, scale=n**-0.5), "d_out": normal(T, d),
    }
    ours, peer = Ours(T, d, n, E, K, tensors), Torch(tensors, E)

    def error(a: Any, b: Any) -> float:
        a, b = a.detach().float(), b.detach().float()
        return float((a - b).norm() / b.norm())

    ours.forward()
    ours.backward()
    expected = [peer.forward(), *peer.backward()]
    actual = [ours.out, *ours.gradients.values()]
    errors = {name: error(a, b) for name, a, b in zip(("out", "d_x", "d_gates", "d_w1", "d_w2"), actual, expected)}
    wrong = {name: e for name, e in errors.items() if not e < 0.02}
    if wrong:
        raise RuntimeError(f"wrong results at T, d, n, E, K = {T, d, n, E, K}: relative to torch's, "
                           + ", ".join(f"{name} is off by {e:.3g}" for name, e in wrong.items()))
    del expected
    a, b = normal(8192, 8192), normal(8192, 8192)
    big = torch.empty(1 << 29, dtype=torch.bfloat16, device="cuda").normal_()
    half = big.numel() // 2
    timer = Timer()
    calls = {"matmul": lambda: a @ b, "copy": lambda: big[:half].copy_(big[half:])}
    for part in ("forward", "backward"):
        calls[f"ours {part}"] = getattr(ours, part)
        calls[f"ours {part} graph"] = captured(getattr(ours, part))
        calls[f"torch {part}"] = getattr(peer, part)
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            timer.burst(name, call)
    flops, copy = 2 * 8192**3 / timer.median("matmul") * 1e3, 2 * half * 2 / timer.median("copy") * 1e3
    result: dict[str, Any] = {
        "T": T, "d": d, "n": n, "E": E, "K": K, "routing": routing, "errors against torch": errors,
        "matmul TFLOP/s": flops / 1e12, "copy GB/s": copy / 1e9, "rounds": rounds,
        "compile seconds": {"cold": ours.cold, "warm": ours.warm},
        "saved bytes": {"ours": ours.saved, "torch": peer.saved},
        "ms": {name: timer.median(name) for name in calls},
        "spread": {name: timer.spread(name) for name in calls},
    }
    for part, work in (("forward", 6 * T * n * K * d), ("backward", 12 * T * n * K * d)):
        strict = seconds(roofline(T, d, n, E, K, T)[part], flops, copy)
        loose = seconds(roofline(T, d, n, E, K, T * K)[part], flops, copy)
        milliseconds = timer.median(f"ours {part} graph")
        result[part] = {
            "ours TFLOP/s": work / timer.median(f"ours {part}") / 1e9,
            "ours graph TFLOP/s": work / milliseconds / 1e9,
            "torch TFLOP/s": work / timer.median(f"torch {part}") / 1e9,
            "over torch": timer.median(f"torch {part}") / timer.median(f"ours {part}"),
            "of strict roofline": strict * 1e3 / milliseconds, "of loose roofline": loose * 1e3 / milliseconds,
            "kernels us": kernel_times(getattr(ours, part)),
        }
    return result


def table(results: list[dict[str, Any]]) -> str:
    """The results as lines of text."""
    lines = [f"{'T, d, n, E, K':28} {'':9} {'ours':>6} {'graph':>6} {'torch':>6} {'ratio':>6} {'roof':>6}"
             f" {'spread':>7} {'saved GiB ours/torch':>21} {'compile s':>10}",
             f"{'':28} {'':9} {'TFLOP/s':>20} {'':>6} {'strict':>6}"]
    for r in results:
        name = ", ".join(str(r[k]) for k in "TdnEK")
        for part in ("forward", "backward"):
            p = r[part]
            lines.append(
                f"{name if part == 'forward' else '':28} {part:9} {p['ours TFLOP/s']:6.0f} {p['ours graph TFLOP/s']:6.0f}"
                f" {p['torch TFLOP/s']:6.0f} {p['over torch']:6.2f} {100 * p['of strict roofline']:5.0f}%"
                f" {100 * r['spread'][f'ours {part}']:6.0f}%"
                + (f" {r['saved bytes']['ours'] / 2**30:12.2f} / {r['saved bytes']['torch'] / 2**30:.2f}"
                   f" {r['compile seconds']['cold']:13.1f}" if part == "forward" else ""))
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: pathlib.Path, device: str) -> None:
    """TFLOP/s of both, and the roofline, one panel a direction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 1, figsize=(11, 8), sharex=True)
    names = ["\n".join([f"T={r['T']}", f"d={r['d']} n={r['n']}", f"E={r['E']} K={r['K']}"]) for r in results]
    for panel, part in zip(panels, ("forward", "backward")):
        places = range(len(results))
        rates = [r[part]["ours graph TFLOP/s"] for r in results]
        panel.bar([p - 0.2 for p in places], rates, 0.4, label="moe-mlir")
        panel.bar([p + 0.2 for p in places], [r[part]["torch TFLOP/s"] for r in results], 0.4,
                  label="torch: gather + grouped_mm + compile")
        panel.plot(places, [rate / r[part]["of strict roofline"] for rate, r in zip(rates, results)], "k_",
                   markersize=24, label="kernel-wise roofline")
        panel.set_ylabel(f"{part}, TFLOP/s")
    panels[0].legend()
    panels[0].set_title(f"gated MLP, bf16, {device}")
    panels[1].set_xticks(list(range(len(results))), names, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m moe_mlir.bench", description=__doc__.split("\n")[0])
    parser.add_argument("configurations", nargs="*", help="T,d,n,E,K; default: the twelve")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--routing", choices=["random", "zipf", "hot", "half-empty"], default="random")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of bench.json and bench.png")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no configuration after this time")
    given = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available():
        print("moe_mlir.bench needs an NVIDIA GPU that torch sees; python -m moe_mlir.doctor says what is missing",
              file=sys.stderr)
        return 1
    configurations = [tuple(map(int, c.split(","))) for c in given.configurations] or CONFIGURATIONS
    device = torch.cuda.get_device_name()
    given.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    begin, failed = time.monotonic(), False
    for configuration in configurations:
        if time.monotonic() - begin > given.seconds:
            print(f"not run, out of time: {configuration}", file=sys.stderr)
            continue
        try:
            results.append(run(*configuration, rounds=given.rounds, routing=given.routing))
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
            failed = True
            continue
        print(table(results[-1:]).split("\n", 2)[2], flush=True)
        document = {"device": device, "torch": torch.__version__, "burst": BURST, "idle gap s": GAP_SECONDS,
                    "results": results}
        (given.out / "bench.json").write_text(json.dumps(document, indent=1))
        gc.collect()
    print(f"\n{device}; bursts of {BURST} after {GAP_SECONDS} s idle, {given.rounds} rounds in turn, medians")
    print(table(results))
    if results:
        plot(results, given.out / "bench.png", device)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
