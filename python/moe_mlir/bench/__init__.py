# SPDX-License-Identifier: Apache-2.0
"""Gated MLP layers on a GPU against PyTorch, forward and backward.

    python -m moe_mlir.bench                       # the twelve configurations
    python -m moe_mlir.bench 40960,768,256,128,8   # T, d, n, E, K
    python -m moe_mlir.bench --routing zipf --sustained --out results/

The peer ``torch`` is what a PyTorch user writes: rows gathered, ``torch._grouped_mm``, elementwise
math and the sum over K under ``torch.compile``, given the sorted order of the slots; ours sorts them
in each call. ``scattermoe`` and ``sonicmoe`` are measured where they import, and named with the
reason where not. Ways run in turn, in bursts with idle gaps (``--sustained``: long bursts without),
on unit-scale random data, in one process, which also measures the rates that the roofline is made
of: dense bf16 matrix product and device copy. Writes bench.json and bench.png, and prints tables.
Results that are not torch's to rounding are an error, not a time.
"""

from __future__ import annotations

import argparse
import gc
import json
import pathlib
import sys
import time
from typing import Any, Callable

from . import layers
from .measure import Timer, captured, clocks, kernel_times, peak_bytes
from .report import alone_table, backward_table, kernel_rates, kernel_table, plot, roofline, seconds, table

CONFIGURATIONS = [
    (40960, 768, 256, 128, 8), (40960, 768, 512, 64, 4), (40960, 768, 1024, 32, 2),
    (24576, 1536, 256, 128, 8), (24576, 1536, 512, 64, 4), (24576, 1536, 1024, 32, 2),
    (32768, 4096, 256, 256, 16), (32768, 4096, 512, 128, 8), (32768, 4096, 1024, 64, 4),
    (32768, 4096, 512, 256, 16), (32768, 4096, 1024, 128, 8), (32768, 4096, 2048, 64, 4),
]
RESULTS = ("out", "d_x", "d_gates", "d_w1", "d_w2")


def route(kind: str, T: int, E: int, K: int, generator: Any) -> Any:
    """ids (T, K), distinct within a token."""
    import torch

    weight = torch.ones(E, device=layers.DEVICE)
    if kind == "zipf":
        weight = torch.arange(1, E + 1, device=layers.DEVICE).float() ** -1.2
    elif kind == "hot":  # one expert with 60 % of the tokens
        weight[0] = 1.5 * (E - 1) / K
    elif kind == "half-empty":
        weight[E // 2:] = 0
    # The K largest of log(weight) + Gumbel noise: without replacement.
    noise = -torch.log(-torch.log(torch.rand(T, E, device=layers.DEVICE, generator=generator).clamp_min(1e-20)))
    return (torch.log(weight) + noise).topk(K).indices


def differences(actual: list[Any], expected: list[Any]) -> dict[str, float]:
    """Relative to what is expected, by name."""
    pairs = [(a.detach().float(), b.detach().float()) for a, b in zip(actual, expected)]
    return {name: float((a - b).norm() / b.norm()) for name, (a, b) in zip(RESULTS, pairs)}


def find_peers(names: list[str], tensors: dict[str, Any], E: int, ours: Any) -> tuple[dict[str, Any], dict, dict]:
    """Peers whose results are ours; the reason for each that is not measured; how far ours are from theirs."""
    peers, missing, errors = {}, {}, {}
    for name in names:
        try:
            peer = layers.make_peer(name, tensors, E)
        except ImportError as error:
            missing[name] = f"not measured, it does not import: {error}"
            continue
        except Exception as error:  # a library of others
            if name == "torch":
                raise
            missing[name] = f"not measured, it fails: {str(error).strip().splitlines()[-1:]}"
            continue
        errors[name] = differences(ours.results, peer.results)
        wrong = ", ".join(f"{what} by {e:.3g}" for what, e in errors[name].items() if not e < 0.02)
        if wrong and name == "torch":
            raise RuntimeError(f"wrong results, relative to torch's: {wrong}")
        if wrong:
            missing[name] = f"not measured, its results are not ours: {wrong}"
            continue
        missing[name] = ""
        peers[name] = peer
        del peer.results
    return peers, missing, errors


def run(T: int, d: int, n: int, E: int, K: int, rounds: int, routing: str, sustained: bool, names: list[str]) -> dict[str, Any]:
    """One configuration: medians, spreads, rates, memory."""
    import torch

    begin = time.monotonic()
    torch.cuda.empty_cache()
    torch._dynamo.reset()
    generator = torch.Generator(layers.DEVICE).manual_seed(T + n)

    def normal(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape, device=layers.DEVICE, generator=generator, dtype=torch.bfloat16) * scale)

    tensors = {
        "x": normal(T, d), "ids": route(routing, T, E, K, generator),
        "gates": torch.rand(T, K, device=layers.DEVICE, generator=generator).bfloat16(),
        "w1": normal(E, 2 * n, d, scale=d**-0.5), "w2": normal(E, d, n, scale=n**-0.5), "d_out": normal(T, d),
    }
    ours = layers.Ours(T, d, n, E, K, tensors)
    ours.forward()
    ours.backward()
    # In place: twice the gradient after two calls, to the rounding of one.
    for _ in range(2):
        ours.backward_f32()
    doubled = [buffer / 2 for buffer in ours.buffers.values()]
    found = [float((a - b.float()).norm() / b.float().norm()) for a, b in zip(doubled, ours.results[3:])]
    if not max(found) < 0.02:
        raise RuntimeError(f"wrong gradients in f32, relative to those in bf16: d_w1, d_w2 are off by {found}")
    del doubled
    peers, missing, errors = find_peers(names, tensors, E, ours)
    compiled = time.monotonic()

    a, b = normal(8192, 8192), normal(8192, 8192)
    big = torch.empty(1 << 29, dtype=torch.bfloat16, device=layers.DEVICE).normal_()
    half = big.numel() // 2
    calls: dict[str, Callable[[], Any]] = {"matmul": lambda: a @ b, "copy": lambda: big[:half].copy_(big[half:])}
    no_graph: dict[str, str] = {}
    for part in ("forward", "backward"):
        calls[f"ours {part}"] = getattr(ours, part)
        calls[f"ours graph {part}"] = captured(getattr(ours, part))
    calls["ours f32 in place backward"] = ours.backward_f32
    calls["ours then add backward"] = ours.backward_add
    for name, peer in peers.items():
        calls[f"{name} forward"] = peer.forward
        calls[f"{name} backward" if peer.repeats else f"{name} step"] = peer.backward if peer.repeats else peer.step
        # A capture that fails leaves torch's random generators unusable for the rest of the process, as those of
        # autograd's backward did on torch 2.11: only what is known to work is tried.
        no_graph[f"{name} backward"] = "a backward of torch.autograd is not captured"
        if name == "torch":
            calls["torch graph forward"] = captured(peer.forward)
            calls["torch then add backward"] = peer.backward_add
        else:
            no_graph[f"{name} forward"] = "only torch's forward is captured"
    for call in calls.values():
        call()
    timer = Timer(sustained)
    with clocks() as clock:
        for _ in range(rounds):
            for name, call in calls.items():
                timer.burst(name, call)
    flops, copy = 2 * 8192**3 / timer.median("matmul") * 1e3, 2 * half * 2 / timer.median("copy") * 1e3
    peak = {"ours": peak_bytes(ours.step), **{name: peak_bytes(peer.step) for name, peer in peers.items()}}
    result: dict[str, Any] = {
        "T": T, "d": d, "n": n, "E": E, "K": K, "routing": routing, "errors": errors, "peers": missing,
        "no graph": no_graph, "matmul TFLOP/s": flops / 1e12, "copy GB/s": copy / 1e9, "rounds": rounds,
        "clocks": clock, "compile seconds": {"cold": ours.cold, "warm": ours.warm},
        "saved bytes": {"ours": ours.saved, **{name: peer.saved for name, peer in peers.items()}}, "peak bytes": peak,
        "ms": {name: timer.median(name) for name in calls}, "spread": {name: timer.spread(name) for name in calls},
    }
    kernels = {name: {part: kernel_times(getattr(way, part)) for part in ("forward", "backward")
                      if part == "forward" or getattr(way, "repeats", True)}
               for name, way in {"ours": ours, **peers}.items()}
    # What is left where a caller's Python and launches are hidden.
    result["kernels alone ms"] = {name: {part: sum(times.values()) / 1e3 for part, times in parts.items()}
                                  for name, parts in kernels.items()}
    for part, work in (("forward", 6 * T * n * K * d), ("backward", 12 * T * n * K * d)):
        strict = seconds(roofline(T, d, n, E, K, T)[part], flops, copy)
        loose = seconds(roofline(T, d, n, E, K, T * K)[part], flops, copy)
        milliseconds = {name[: -len(part) - 1]: timer.median(name) for name in calls if name.endswith(f" {part}")}
        if part == "backward":
            milliseconds.update({name: timer.median(f"{name} step") - timer.median(f"{name} forward")
                                 for name, peer in peers.items() if not peer.repeats})
        mine = kernels["ours"][part]

        def over(peer: str, mine: str) -> Any:
            return milliseconds[peer] / milliseconds[mine] if peer in milliseconds else None

        result[part] = {
            "TFLOP/s": {way: work / ms / 1e9 for way, ms in milliseconds.items()},
            "over torch": over("torch", "ours"), "graph over torch's": over("torch graph", "ours graph"),
            "of strict roofline": strict * 1e3 / milliseconds["ours graph"],
            "of loose roofline": loose * 1e3 / milliseconds["ours graph"],
            "kernels us": mine, "kernels": kernel_rates(part, mine, (T, d, n, E, K), flops, copy),
        }
    result["seconds"] = {"compiling and checking": compiled - begin, "all": time.monotonic() - begin}
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m moe_mlir.bench", description=__doc__.split("\n")[0])
    parser.add_argument("configurations", nargs="*", help="T,d,n,E,K; default: the twelve")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--routing", choices=["random", "zipf", "hot", "half-empty"], default="random")
    parser.add_argument("--sustained", action="store_true", help="bursts of a quarter of a second, without idle gaps")
    parser.add_argument("--peers", default=",".join(layers.PEERS), help="default: torch,scattermoe,sonicmoe")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of bench.json and bench.png")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no configuration after this time")
    given = parser.parse_args(arguments)
    names = [name for name in given.peers.split(",") if name]
    unknown = sorted(set(names) - set(layers.PEERS))
    if unknown:
        parser.error(f"--peers has {', '.join(unknown)}; there are {', '.join(layers.PEERS)}")
    import torch

    if not torch.cuda.is_available():
        print("moe_mlir.bench needs an NVIDIA GPU that torch sees; python -m moe_mlir.doctor says what is missing",
              file=sys.stderr)
        return 1
    configurations = [tuple(map(int, c.split(","))) for c in given.configurations] or CONFIGURATIONS
    device = torch.cuda.get_device_name()
    given.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    timer = Timer(given.sustained)
    how = ("bursts of %g s without idle gaps" % timer.least if given.sustained
           else f"bursts of {timer.burst_length} after {timer.gap} s idle")
    begin, failed = time.monotonic(), False
    for configuration in configurations:
        if time.monotonic() - begin > given.seconds:
            print(f"not run, out of time: {configuration}", file=sys.stderr)
            continue
        try:
            results.append(run(*configuration, given.rounds, given.routing, given.sustained, names))
        except RuntimeError as error:
            print(f"T, d, n, E, K = {configuration}: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        print(table(results[-1:]).split("\n", 1)[1], flush=True)
        document = {"device": device, "torch": torch.__version__, "bursts": how, "idle gap s": timer.gap,
                    "results": results}
        (given.out / "bench.json").write_text(json.dumps(document, indent=1))
        gc.collect()
    print(f"\n{device}; {how}, {given.rounds} rounds in turn, medians; TFLOP/s")
    if results:
        print(table(results), backward_table(results), alone_table(results), kernel_table(results), sep="\n\n")
        plot(results, given.out / "bench.png", device)
    return int(failed)
