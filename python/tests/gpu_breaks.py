# SPDX-License-Identifier: Apache-2.0
"""Breaks each kernel on purpose and records which GPU test sees it.

    python python/tests/gpu_breaks.py [--only await] [--kernels d-W1] [--jobs 8] [--out breaks.json]

`moe-break` (a program of the build folder) is put in the place of moe-compile; each case has a process,
and a cache of its own, and is ended where it hangs. A mistake that every test survives is a defect of the tests: exit
code 1, unless SURVIVES says why it changes no result.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import oracle

HERE = pathlib.Path(__file__).resolve().parent

LAYER = ["test_gpu_layers.py::test_gated_mlp", "-k", "bfloat16"]
CONTRACT = ["test_gpu_contract.py", "-k", "bf16"]
# (kernels of a gated MLP in bf16, what they are, the tests that run them). The first product of
# forward gathers, that of backward too and has operands; the second ones do neither.
PRODUCTS = {
    "up": "^forward_grouped_matmul_0$",
    "down": "^forward_grouped_matmul_1$",
    "d-up": "^backward_grouped_matmul_0$",
    "d-X": "^backward_grouped_matmul_1$",
    "d-W2": "^backward_grouped_outer_0$",
    "d-W1": "^backward_grouped_outer_1$",
}
# Mistakes that only some of them can have; all others of the ring and of NVVM all six can.
ONLY_IN = {
    "row-ids-shifted": "up d-up d-W2 d-W1", "copy-waits-dropped": "up d-up d-W2 d-W1",
    "tail-mask-dropped": "d-W2 d-W1", "empty-experts-skipped": "d-W2 d-W1", "scalars-shifted": "d-up",
    "operand-blocks-confused": "d-up", "publish-dropped": "d-up", "store-wait-dropped": "d-up", "sums-end-early": "d-up", "summand-dropped": "d-up", "addend-dropped": "up d-up",
    "weights-shifted": "up down d-up d-X d-W1",
}
KERNELS = "test_gpu_kernels.py"
OPS = "test_gpu_ops.py"
ROWS = "test_gpu_rows.py"
# Plain kernels, by what their name holds: the mistakes they can have, and the tests that run them.
PLAIN = {
    "sort_slots": ("ties-dropped barriers-dropped guard-one-more shuffle-dropped places-reversed chunk-dropped",
                   [OPS, ROWS, "-k", "assign or group or capacity"]),
    "work_table": ("ties-dropped blocks-rounded-down shuffle-dropped chunk-dropped", LAYER),
    "combine_rows": ("guard-one-more selected-dropped addend-dropped first-step-skipped", [KERNELS, "-k", "f32 and combine"]),
    "map_rows": ("guard-one-more addend-dropped first-step-skipped", [KERNELS, "-k", "f32 and map_rows"]),
    "reduce_experts": ("barriers-dropped addend-dropped first-step-skipped guard-one-more", [KERNELS, "-k", "f32 and reduce"]),
    "parts_of": ("addend-dropped first-step-skipped", ["test_gpu_parts.py"]),
    "fold_partials": ("addend-dropped first-step-skipped guard-one-more", [KERNELS, ROWS, "-k", "f32 and fold or into_a_result"]),
    "route_rows": ("ties-reversed shuffle-dropped addend-dropped guard-one-more barriers-dropped",
                   [OPS, "-k", "models or ties or mask or given or finite or saturated"]),
    "route_grad_rows": ("shuffle-dropped addend-dropped first-step-skipped guard-one-more", [OPS, "-k", "route_grad"]),
    "grouped_matmul": ("barriers-dropped addend-dropped first-step-skipped guard-one-more",
                       [KERNELS, "-k", "f32 and grouped_matmul"]),
    "grouped_outer": ("barriers-dropped addend-dropped first-step-skipped guard-one-more", [KERNELS, "-k", "f32 and outer"]),
}
ON_PLAIN_ALONE = {"ties-dropped", "blocks-rounded-down", "barriers-dropped", "guard-one-more", "selected-dropped",
                  "first-step-skipped", "shuffle-dropped", "places-reversed", "chunk-dropped", "ties-reversed"}
# (mistake, kernel): why no result can change.
SURVIVES = {
    ("mma-wait-dropped", kernel): "ptxas sees it and serializes wgmma (C7514): check=true refuses the kernel"
    for kernel in ("d-W1", "d-W2")
}
QUIET = 30  # seconds without a test that ends: a kernel hangs


def breaks():
    """name -> description, as the program lists them."""
    listed = subprocess.run([oracle.program("moe-break"), "--list"], capture_output=True, text=True, check=True)
    return {name: text for name, _, text in (line.split("\t") for line in listed.stdout.splitlines())}


def cases(only, kernels):
    for case in all_cases():
        if re.search(only, case[0]) and re.search(kernels, case[1]):
            yield case


def all_cases():
    for mistake in breaks():
        for kernel, (mistakes, tests) in PLAIN.items():
            if mistake in mistakes.split():
                yield mistake, kernel, kernel, [tests]
        if mistake not in ON_PLAIN_ALONE:
            for kernel in ONLY_IN.get(mistake, " ".join(PRODUCTS)).split():
                yield mistake, kernel, PRODUCTS[kernel], [LAYER, CONTRACT]


def first_failure(selection, environment):
    """The test of a selection that fails, hangs or ends the process; empty where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-v", "--no-header", "-p", "no:cacheprovider", *selection]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=HERE, env=environment, stdout=output, stderr=subprocess.DEVNULL)
        size, since = 0, time.time()
        while process.poll() is None:
            time.sleep(0.2)
            if os.fstat(output.fileno()).st_size != size:
                size, since = os.fstat(output.fileno()).st_size, time.time()
            elif time.time() - since > QUIET:
                process.kill()
                process.wait()
                output.seek(0)
                return output.read().splitlines()[-1].strip() + ": hangs"
        output.seek(0)
        text = output.read()
    if process.returncode in (0, 5):  # passed, or nothing selected
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
    return failed.group(1) if failed else text.splitlines()[-1].strip() + f": the process ends with {process.returncode}"


def run(case):
    mistake, kernel, names, tests = case
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        environment = dict(
            os.environ, MOE_MLIR_COMPILER=str(oracle.program("moe-break")), MOE_BREAK=mistake, MOE_BREAK_KERNELS=names,
            MOE_BREAK_LOG=str(log), MOE_MLIR_CACHE=f"{folder}/cache", MOE_BUILD_DIR=str(oracle.BUILD),
        )
        caught = next(filter(None, (first_failure(selection, environment) for selection in tests)), "")
        broken = sorted(set(log.read_text().split())) if log.exists() else []
    return {"mistake": mistake, "kernel": kernel, "broken": broken, "caught by": caught,
            "seconds": round(time.time() - began, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="regular expression of mistakes")
    parser.add_argument("--kernels", default="", help="regular expression of kernels")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no case after this time")
    given = parser.parse_args()
    began, results, left_out = time.time(), [], []

    def timed(case):
        if time.time() - began > given.seconds:
            return None
        return run(case)

    # What may hang comes last.
    todo = sorted(cases(given.only, given.kernels), key=lambda c: bool(re.search("release|other-phase", c[0])))
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        for case, result in zip(todo, pool.map(timed, todo)):
            if result is None:
                left_out.append(case[:2])
            elif result["broken"]:
                results.append(result)
                print(f"{result['mistake']:24} {result['kernel']:16} {result['seconds']:6.1f} s  "
                      f"{result['caught by'] or 'SURVIVES'}", flush=True)
            if given.out:
                given.out.write_text(json.dumps({"results": results, "left out": left_out}, indent=1))
    missed = [r for r in results if not r["caught by"] and (r["mistake"], r["kernel"]) not in SURVIVES]
    print(f"{len(results)} broken kernels, {len(results) - len(missed)} seen; {len(left_out)} cases left out for time")
    for r in missed:
        print(f"not seen: {r['mistake']} in {r['kernel']} ({', '.join(r['broken'][:4])})")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
