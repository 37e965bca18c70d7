# SPDX-License-Identifier: Apache-2.0
"""What moe-compile costs for a gated MLP: CPU time of its processes, ptxas among them, and no cache."""

from __future__ import annotations

import pathlib
import resource
import statistics
import subprocess
import tempfile
import time
from typing import Any

import moe_mlir
from moe_mlir import _native

SIZES = dict(d_model=256, d_expert=512, experts=16, top_k=2)
GRADIENTS = "--opt=grad=x,gates,w1,w2"


def spent() -> float:
    """CPU time of the children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(seconds: float) -> list[dict[str, Any]]:
    """Medians in milliseconds; a target that does not compile here is left out, with the reason."""
    compiler, results = str(_native.find_program("moe-compile")), []
    for target, dtype in (("cpu", "f32"), ("sm_90a", "bf16")):
        text = moe_mlir.layers.GatedMLP(**SIZES, dtype=dtype).text.encode()
        for name, options in (("forward", []), ("forward and backward", [GRADIENTS])):
            cpu, elapsed, end = [], [], time.monotonic() + seconds
            with tempfile.TemporaryDirectory() as folder:
                command = [compiler, "-", f"--target={target}", *options, "-o", str(pathlib.Path(folder) / "module")]
                while len(cpu) < 3 or time.monotonic() < end:
                    before, start = spent(), time.monotonic()
                    done = subprocess.run(command, input=text, capture_output=True)
                    if done.returncode:
                        print(f"compilation: {target} {name}: {done.stderr.decode().strip().splitlines()[-1]}")
                        break
                    cpu.append(1e3 * (spent() - before))
                    elapsed.append(1e3 * (time.monotonic() - start))
            if len(cpu) < 3:
                continue
            results.append({"target": target, "dtype": dtype, **SIZES, "what": name, "calls": len(cpu),
                            "cpu_ms": statistics.median(cpu), "least_cpu_ms": min(cpu),
                            "elapsed_ms": statistics.median(elapsed)})
            print(f"compilation {target:7} {dtype:5} {name:22} {statistics.median(cpu):7.0f} ms of CPU time, "
                  f"least {min(cpu):.0f}, {statistics.median(elapsed):.0f} elapsed")
    return results
