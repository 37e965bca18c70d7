# SPDX-License-Identifier: Apache-2.0
"""Time, kernels, memory and clocks of calls on a GPU."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from typing import Any, Callable, Iterator


class Timer:
    """Milliseconds of calls, in turns: bursts after an idle gap, or long ones without."""

    def __init__(self, sustained: bool = False) -> None:
        self.gap, self.burst_length, self.least = (0.0, 4, 0.25) if sustained else (0.08, 4, 0.0)
        self.times: dict[str, list[float]] = {}

    def burst(self, name: str, call: Callable[[], Any]) -> None:
        import torch

        time.sleep(self.gap)
        call()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        count = self.burst_length
        if self.least:  # as many as take so long: how long one takes is known after a few
            start.record()
            for _ in range(count):
                call()
            end.record()
            torch.cuda.synchronize()
            count = max(count, int(1e3 * self.least * count / max(start.elapsed_time(end), 1e-3)))
        start.record()
        for _ in range(count):
            call()
        end.record()
        torch.cuda.synchronize()
        self.times.setdefault(name, []).append(start.elapsed_time(end) / count)

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
    with torch.cuda.graph(graph, stream=side):
        call()
    return graph.replay


def kernel_times(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Microseconds of each kernel of one call, in the order they run: medians."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    runs = []
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CUDA]) as run:
            call()
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for event in sorted(run.events(), key=lambda e: e.time_range.start):
            if event.device_type == torch.autograd.DeviceType.CUDA:
                found[event.name] = found.get(event.name, 0.0) + event.device_time_total
        runs.append(found)
    return {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[-1]}


def peak_bytes(step: Callable[[], Any]) -> int:
    """What a step allocates at most, over what there is before."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = step()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before


CLOCK_FIELDS = ("clocks.sm", "power.draw", "temperature.gpu")


@contextlib.contextmanager
def clocks() -> Iterator[dict[str, Any]]:
    """Fills what it gives with nvidia-smi's clocks, power and temperature in the meantime."""
    import torch

    found: dict[str, Any] = {}
    command = ["nvidia-smi", f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}",
               f"--query-gpu={','.join(CLOCK_FIELDS)}", "--format=csv,noheader,nounits", "-lms", "100"]
    try:
        sampler = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        found["not sampled"] = str(error)
        yield found
        return
    try:
        yield found
    finally:
        sampler.terminate()
        text = sampler.communicate()[0]
        found.update(summary(text))


def summary(text: str) -> dict[str, Any]:
    """Least, median and most of each field of nvidia-smi's lines."""
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = [float(word) for word in line.split(",")]
            if len(row) == len(CLOCK_FIELDS):
                rows.append(row)
    if not rows:
        return {"not sampled": text.strip()[:200] or "nvidia-smi printed nothing"}
    found: dict[str, Any] = {"samples": len(rows)}
    for name, values in zip(CLOCK_FIELDS, zip(*rows)):
        found[name] = [min(values), statistics.median(values), max(values)]
    return found
