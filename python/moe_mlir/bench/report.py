# SPDX-License-Identifier: Apache-2.0
"""What follows from the measurements: rooflines, tables, plots."""

from __future__ import annotations

import pathlib
import re
from typing import Any, Iterable

Work = dict[str, tuple[float, float]]


def roofline(T: int, d: int, n: int, E: int, K: int, gathered: int) -> dict[str, Work]:
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


def seconds(kernels: Work, flops: float, copy: float) -> float:
    """Time of kernels that each reach their own limit."""
    return sum(max(f / flops, b / copy) for f, b in kernels.values())


ROLES = {
    "forward": [("matmul", ["up", "down"]), ("combine", ["combine"])],
    "backward": [("matmul", ["d-up", "d-X"]), ("outer", ["d-W2", "d-W1"]), ("combine", ["combine"])],
}


def role_times(part: str, kernels: dict[str, float]) -> dict[str, float]:
    """Microseconds by role: kernels of a kind have the order of their names' numbers, in which they run (d-W2
    first, which frees A: moe-order-kernels); what has no role in a roofline (sorting, work tables) is "other"."""
    roles: dict[str, float] = {}
    rest = dict(kernels)
    for kind, names in ROLES[part]:
        number = lambda name: [int(word) for word in re.findall(r"\d+", name)]  # noqa: E731
        found = sorted((k for k in rest if kind in k), key=number)
        for role, kernel in zip(names, found):
            roles[role] = rest.pop(kernel)
    roles["other"] = sum(rest.values())
    return roles


def kernel_rates(part: str, kernels: dict[str, float], shape: tuple[int, ...], flops: float, copy: float) -> dict[str, Any]:
    """Of each role: microseconds, TFLOP/s, GB/s and shares of its own strict and loose roofline."""
    T, d, n, E, K = shape
    strict, loose = (roofline(T, d, n, E, K, rows)[part] for rows in (T, T * K))
    found: dict[str, Any] = {}
    for role, us in role_times(part, kernels).items():
        found[role] = {"us": us}
        if role in strict and us:
            work, bytes_ = strict[role]
            found[role].update({
                "TFLOP/s": work / us / 1e6, "GB/s": bytes_ / us / 1e3,
                "of strict roofline": seconds({role: strict[role]}, flops, copy) * 1e6 / us,
                "of loose roofline": seconds({role: loose[role]}, flops, copy) * 1e6 / us,
            })
    return found


def name_of(result: dict[str, Any]) -> str:
    return ", ".join(str(result[k]) for k in "TdnEK")


def aligned(rows: Iterable[Iterable[Any]]) -> str:
    """Columns, the first to the left."""
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text)]
    return "\n".join("  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
                     for row in text)


def rate(result: dict[str, Any], part: str, way: str) -> str:
    """TFLOP/s of a way, or a dash where it was not measured."""
    found = result[part]["TFLOP/s"].get(way)
    return f"{found:.0f}" if found else "-"


def table(results: list[dict[str, Any]]) -> str:
    """Rates of layers; a dash is what was not measured, and why not follows."""
    peers = [peer for peer in results[0]["peers"]] if results else []
    rows = [["T, d, n, E, K", "", "ours", "graph", *(c for p in peers for c in (p, "graph")), "ours/torch", "graphs",
             "roof", "spread", "saved GiB", "peak GiB"]]
    for r in results:
        for part in ("forward", "backward"):
            p = r[part]
            memory = ["", ""]
            if part == "forward":
                memory = [" / ".join(f"{r[kind][way] / 2**30:.2f}" for way in r[kind]) for kind in ("saved bytes", "peak bytes")]
            over = ["-" if p[key] is None else f"{p[key]:.2f}" for key in ("over torch", "graph over torch's")]
            rows.append([name_of(r) if part == "forward" else "", part, rate(r, part, "ours"), rate(r, part, "ours graph"),
                         *(rate(r, part, way) for peer in peers for way in (peer, f"{peer} graph")), *over,
                         f"{100 * p['of strict roofline']:.0f}%", f"{100 * r['spread'][f'ours {part}']:.0f}%", *memory])
    lines = [aligned(rows)]
    lines += sorted({f"{peer}: {why}" for r in results for peer, why in r["peers"].items() if why})
    return "\n".join(lines)


def backward_table(results: list[dict[str, Any]]) -> str:
    """Backward three ways: TFLOP/s."""
    ways = ["ours", "ours f32 in place", "ours then add", "torch", "torch then add"]
    rows = [["backward, TFLOP/s", "bf16 overwritten", "f32 in place", "bf16, then added", "torch", "torch, then added"]]
    rows += [[name_of(r), *(rate(r, "backward", way) for way in ways)] for r in results]
    return aligned(rows)


def alone_table(results: list[dict[str, Any]]) -> str:
    """The sums of all kernels' own times: what is left where Python and launches are hidden."""
    ways = sorted({way for r in results for way in r["kernels alone ms"]}, key=lambda way: (way != "ours", way))
    rows = [["kernels alone, ms", *(f"{way} {part}" for way in ways for part in ("forward", "backward"))]]
    for r in results:
        times = [r["kernels alone ms"].get(way, {}).get(part) for way in ways for part in ("forward", "backward")]
        rows.append([name_of(r), *("-" if time is None else f"{time:.3f}" for time in times)])
    return aligned(rows)


def kernel_table(results: list[dict[str, Any]]) -> str:
    """Kernels: microseconds, TFLOP/s, GB/s, shares of their rooflines."""
    rows = [["T, d, n, E, K", "kernel", "us", "TFLOP/s", "GB/s", "strict", "loose"]]
    for r in results:
        name = name_of(r)
        for part in ("forward", "backward"):
            for role, k in r[part]["kernels"].items():
                known = "TFLOP/s" in k
                rows.append([name, role, f"{k['us']:.0f}", f"{k['TFLOP/s']:.0f}" if known else "",
                             f"{k['GB/s']:.0f}" if known else "", f"{100 * k['of strict roofline']:.0f}%" if known else "",
                             f"{100 * k['of loose roofline']:.0f}%" if known else ""])
                name = ""
    return aligned(rows)


def plot(results: list[dict[str, Any]], path: pathlib.Path, device: str) -> None:
    """TFLOP/s of all as CUDA graphs where there is one, and the roofline; a panel a direction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 1, figsize=(13, 8), sharex=True)
    names = ["\n".join([f"T={r['T']}", f"d={r['d']} n={r['n']}", f"E={r['E']} K={r['K']}"]) for r in results]
    ways = ["ours", *(peer for peer, why in results[0]["peers"].items() if not why)]
    places, width = range(len(results)), 0.8 / len(ways)
    for panel, part in zip(panels, ("forward", "backward")):
        for i, way in enumerate(ways):
            rates = [r[part]["TFLOP/s"].get(f"{way} graph") or r[part]["TFLOP/s"].get(way, 0.0) for r in results]
            panel.bar([p + (i - (len(ways) - 1) / 2) * width for p in places], rates, width,
                      label={"ours": "moe-mlir", "torch": "torch: gather + grouped_mm + compile"}.get(way, way))
        panel.plot(places, [r[part]["TFLOP/s"]["ours graph"] / r[part]["of strict roofline"] for r in results], "k_",
                   markersize=24, label="kernel-wise roofline")
        panel.set_ylabel(f"{part}, TFLOP/s")
    panels[0].set_ylim(top=1.15 * panels[0].get_ylim()[1])
    panels[0].legend(loc="upper center", ncols=len(ways) + 1)
    panels[0].set_title(f"gated MLP, bf16, {device}")
    panels[1].set_xticks(list(range(len(results))), names, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
