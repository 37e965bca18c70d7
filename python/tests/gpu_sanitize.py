# SPDX-License-Identifier: Apache-2.0
"""Forward and backward of small layers under compute-sanitizer's memcheck, racecheck and synccheck.

    python python/tests/gpu_sanitize.py [--tools memcheck] [--layers gated]

Exit code 1 where a tool reports an error, or where there is no compute-sanitizer or GPU.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

TOOLS = ["memcheck", "racecheck", "synccheck"]
# Together they have every kernel: products with and without gathering, biases, row sums, folds, routing.
LAYERS = ["gated", "interleaved", "routed", "adapter", "attention"]


def find_program():
    """The path of compute-sanitizer; None where there is none."""
    return shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")


def run_layers(names):
    """What the tools watch. Widths of a full tile and a part of one; an expert without rows."""
    import gpu
    import layer_list
    import moe_mlir
    import torch
    from gpu_layer import backward_of, compiled, make
    from test_gpu_layers import run_both

    for dtype in ("bf16", "f32"):
        for name in names:
            layer = layer_list.make_layers(dtype)[name]
            module = moe_mlir.compile(layer.text, target=gpu.TARGET, grad="all")
            for entry in layer.entries:
                given = layer_list.arguments_of(layer, entry, 150)
                wanted = module[entry if entry == "forward" else f"{entry}_forward"].inputs
                run_both(module, entry,
                         [a.to(gpu.DEVICE, getattr(torch, s["dtype"])) for a, s in zip(given, wanted, strict=True)])
    # The last one has an expert whose weight gradients are split.
    for shape in (("empty", 200, 2, 8, 264, 136), ("hot", 300, 4, 8, 256, 256), ("random", 0, 2, 8, 64, 32),
                  ("hot", 1100, 1, 4, 64, 72)):
        arguments, cotangent = make(*shape, torch.bfloat16)
        backward_of(compiled(shape[2], shape[3], *shape[4:], torch.bfloat16), arguments, cotangent)
    run_routers()
    torch.cuda.synchronize()


def run_routers():
    """Groups, capacities, ties, given ids, one expert; and gradients."""
    import gpu
    import test_interpreter_route as route

    route.interpret = gpu.run_gpu
    for drop in ("position", "score"):
        route.test_capacity(drop, 3)
    route.test_capacity_by_score_breaks_ties_by_slot()
    route.test_ties_among_many_experts()
    route.test_models("deepseek_v3", 40, 32, 2.0)
    for order in ("score_then_topk", "topk_then_score"):
        route.test_given_ids(order)
        route.test_rows_without_a_finite_logit(score="softmax", order=order)
    route.test_route_grad("softmax", True, True, True, 40, 4, 40)
    route.test_route_grad("sigmoid", False, True, False, 9, 1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tools", nargs="*", default=TOOLS, choices=TOOLS)
    parser.add_argument("--layers", nargs="*", default=LAYERS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        run_layers(given.layers)
        return 0
    program = find_program()
    if not program:
        print("gpu_sanitize: no compute-sanitizer: it comes with the CUDA toolkit", file=sys.stderr)
        return 1
    # Compiled before, so that the tools see calls alone.
    mine = [sys.executable, str(pathlib.Path(__file__).resolve()), "--inside", "--layers", *given.layers]
    if subprocess.run(mine).returncode:
        return 1
    failed = 0
    for tool in given.tools:
        # Kernels of torch's that fill and check are not ours to judge.
        command = [program, "--tool", tool, "--error-exitcode", "9"]
        for part in ("at6native", "cub", "elementwise", "reduce_kernel"):
            command += ["--kernel-name-exclude", f"kernel_substring={part}"]
        done = subprocess.run([*command, *mine], capture_output=True, text=True,
                              env=dict(os.environ, PYTORCH_NO_CUDA_MEMORY_CACHING="1"))
        summary = [line for line in done.stdout.splitlines() if "SUMMARY" in line]
        print(f"{tool}: {'; '.join(summary) or done.stdout[-500:] + done.stderr[-500:]}", flush=True)
        # racecheck calls some hazards warnings, and ends well.
        if done.returncode or not summary or any(re.search(r"\b[1-9]\d* (hazard|warning)", line) for line in summary):
            failed = 1
            print(done.stdout[:4000])
    return failed


if __name__ == "__main__":
    sys.exit(main())
